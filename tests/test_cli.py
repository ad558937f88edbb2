"""The command line: every verb explains itself, logs for people and machines, and ends in one sentence on bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stcln.cli import app, run_verb
from stcln.errors import BadInput
from stcln.events import Silent, Terminal
from stcln.new import make

VERBS = {
    "new", "fetch", "prepare", "pretrain", "drift", "finetune", "evaluate", "ablate", "report", "export", "predict",
    "lineage", "simulate",
}  # fmt: skip


def stcln(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "stcln", *words], cwd=cwd, capture_output=True, text=True)


def test_the_verbs_are_the_promised_ones() -> None:
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([verb, "--help"], standalone_mode=False)
    assert f"python -m stcln {verb}" in " ".join(capsys.readouterr().out.split())


def test_help_needs_no_heavy_import(tmp_path: Path) -> None:
    code = (
        "import sys, stcln.cli; print(sorted({'torch', 'matplotlib', 'rasterio', 'dagster', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_bad_input_ends_in_one_sentence_and_status_2(tmp_path: Path) -> None:
    done = stcln("prepare", "--season", "2018", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("stcln: ") and "params.yaml: no study here" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_the_log_is_json_lines_where_asked(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    done = stcln("fetch", "--log", "json", cwd=tmp_path / "w")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"progress"} <= {event["event"] for event in events}
    assert json.loads(done.stdout)["event"] == "done"
    failed = stcln("prepare", "--season", "1999", "--log", "json", cwd=tmp_path / "w")
    assert failed.returncode == 2 and json.loads(failed.stderr)["event"] == "error"


def test_a_note_stays_one_line_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    message = f"tile 7 rejected: {'deep/' * 40}7.npy: no class among ['maize', 'meadow'] [red]"
    with Terminal() as terminal:
        terminal.note(message)
    assert capsys.readouterr().err.splitlines() == [message]


def test_a_run_is_recorded_outside_the_outputs(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    run_verb(["fetch", "--workspace", str(tmp_path / "w")], Silent())
    record = json.loads((tmp_path / "w/.stcln/runs/fetch.json").read_text())
    assert record["stage"] == "fetch" and record["seconds"] > 0 and record["packages"]["numpy"]


def test_a_verb_run_by_a_program_raises_and_returns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no study here"):
        run_verb(["report", "--workspace", str(tmp_path)], Silent())


def test_a_trial_outside_a_workspace_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no study here"):
        run_verb(["fetch", "--workspace", str(tmp_path), "--only", "limit=1"], Silent())
    assert not list(tmp_path.iterdir())
