"""Two processes that run one step: the second is told so and touches nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from stcln import runs
from stcln.cli import run_verb
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.new import make
from stcln.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from stcln import runs
from stcln.workspace import Workspace
with runs.alone(Workspace(Path(sys.argv[1])), "fetch"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_step_that_runs_in_another_process_is_refused_in_a_sentence_and_its_part_is_left_alone(
    tmp_path: Path,
) -> None:
    make(tmp_path / "w", "demo", None)
    part = tmp_path / "w/data/.raw.0123abcd.part"
    part.mkdir(parents=True)
    words = ["fetch", "--workspace", str(tmp_path / "w")]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "w")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with pytest.raises(BadInput, match="step fetch: it is running already in another process; wait until it ends"):
            run_verb(words, Silent())
        before = (tmp_path / "w/params.yaml").read_text()
        with pytest.raises(BadInput, match="running already"):
            run_verb([*words, "--only", "limit=1"], Silent())
        assert (tmp_path / "w/params.yaml").read_text() == before, "the study of a step that runs stays"
        assert [path.name for path in (tmp_path / "w/data").iterdir()] == [part.name]
        other.kill()
    run_verb(words, Silent())
    assert [path.name for path in (tmp_path / "w/data").iterdir()] == ["raw"], "a killed process holds no step"


def test_different_steps_run_at_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with runs.alone(workspace, "prepare@2018"), runs.alone(workspace, "prepare@2019"):
        pass
