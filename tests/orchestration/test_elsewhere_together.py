"""A training on two machines that see no disk of Dagster's: each takes the inputs, and the first gives."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import real_study
from own_pipes import pipes_to
from seaweed import Seaweed

from orchestration.remote.ledger import RemoteLedger
from orchestration.remote.place import run_elsewhere
from orchestration.runners.pipes import PROGRAM
from stcln.interrupt import Stopped
from stcln.storage import digest

pytestmark = [pytest.mark.orchestration, pytest.mark.long]
STAGE, OUTPUT = "scratch@2018-full-scratch", "models/finetuned/2018/full/scratch"
MACHINES = 2
NUMBERS = count()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose season is prepared; copy it."""
    root = tmp_path_factory.mktemp("together") / "workspace"
    real_study.make(root)
    real_study.call(root, "-m", "dvc", "repro", "-q", "prepare@2018")
    return root


@pytest.fixture
def study(prepared: Path, s3: Seaweed, tmp_path: Path) -> Path:
    """The same, with a bucket for a remote."""
    root = Path(shutil.copytree(prepared, tmp_path / "workspace"))
    real_study.call(
        root, "-m", "dvc", "remote", "add", "-q", "--default", "store", s3.bucket(f"together-{next(NUMBERS)}")
    )
    return root


def torchrun(machine: int, port: int, processes: int) -> list[str]:
    """The words that start a machine's processes."""
    nodes = ["--nnodes", str(MACHINES), "--node-rank", str(machine), "--nproc-per-node", str(processes)]
    meet = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [sys.executable, "-m", "torch.distributed.run", *nodes, *meet]


def test_each_machine_takes_the_inputs_once_and_the_ledger_records_what_the_first_gave(
    study: Path, s3: Seaweed, tmp_path: Path
) -> None:
    ledger, messages = RemoteLedger(study), tmp_path / "messages"
    words = ledger.argv(STAGE)[len(PROGRAM) :]
    messages.touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for machine in range(MACHINES):
        (tmp_path / f"tmp-{machine}").mkdir()
        own = {"TMPDIR": str(tmp_path / f"tmp-{machine}")}
        environment = {**real_study.ENVIRONMENT, **s3.environment, **pipes_to(messages), **own}
        command = [*torchrun(machine, port, 2), "-m", "orchestration.step", *words]
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **told))
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    told = [json.loads(line) for line in messages.read_text().splitlines()]
    assert [one["method"] for one in told].count("opened") == 1
    (summary,) = (one["params"]["payload"]["summary"] for one in told if one["method"] == "report_custom_message")
    assert ledger.commit(STAGE, summary["made"]) == ledger.versions([STAGE])[STAGE]
    assert not (study / "models").exists() and not [*tmp_path.glob("tmp-*/stcln-*")]
    team = ["-m", "torch.distributed.run", "--nproc-per-node", "4", *PROGRAM[1:]]
    real_study.call(study, *team, *words[: words.index(STAGE) - 1])
    assert digest(study / OUTPUT) == ledger.version(STAGE)


def test_every_machine_goes_on_where_the_team_was_and_the_first_alone_keeps_its_state(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, seen = RemoteLedger(study).argv("pretrain"), list[str]()
    state = Path(".stcln/resume/pretrain/state.json")

    def stopped(words: Sequence[str]) -> dict[str, Any]:
        seen.append(state.read_text() if state.exists() else "nothing")
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(f"of machine {rank}")
        raise Stopped(15)

    for rank in "1010":
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(Stopped):
            run_elsewhere(words[len(PROGRAM) :], stopped)
    assert seen == ["nothing", "nothing", "of machine 0", "of machine 0"]
