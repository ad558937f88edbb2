"""A run that was broken off ends with the bytes of one that was not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny_study import restudy

from stcln.events import Silent, Value
from stcln.storage import digest
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "d6", "scratch")


class Broken(Exception):  # noqa: N818
    """The power fails."""


class BreaksOff(Silent):
    """Fails as soon as so many epochs are reported; keeps the notes."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.epochs, self.notes = after, 0, []

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        self.epochs += 1
        if self.epochs == self.after:
            raise Broken

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        self.notes.append(message)


def run_pretrain(workspace: Workspace, reporter: BreaksOff) -> Path:
    pretrain(workspace, reporter)
    return workspace.pretrained


def run_finetune(workspace: Workspace, reporter: BreaksOff) -> Path:
    finetune(workspace, *CELL, reporter)
    return workspace.finetuned(*CELL)


@pytest.mark.parametrize(("run", "after"), [(run_pretrain, 1), (run_finetune, 2), (run_finetune, 4)])
def test_a_run_broken_after_an_epoch_and_run_again_ends_with_the_same_bytes(
    tiny_workspace: Workspace, run: Callable[[Workspace, BreaksOff], Path], after: int
):
    whole = BreaksOff()
    expected = digest(output := run(tiny_workspace, whole))
    _remove(output)
    with pytest.raises(Broken):
        run(tiny_workspace, BreaksOff(after))
    assert not output.exists()
    again = BreaksOff()
    assert digest(run(tiny_workspace, again)) == expected
    assert again.epochs == whole.epochs - after
    assert any("resumed" in note for note in again.notes)


def test_a_run_killed_at_any_moment_and_run_again_ends_with_the_same_bytes(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, finetune={"epochs": 8})
    expected = digest(output := run_finetune(workspace, BreaksOff()))
    _remove(output)
    code = f"from test_resume import *; run_finetune(Workspace(Path({str(workspace.root)!r})), BreaksOff())"
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent, here.parents[1])))}
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    state = workspace.resume("scratch@2016-d6-scratch") / f"seed-{workspace.study.seed}" / "state.json"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert digest(run_finetune(workspace, BreaksOff())) == expected


def test_nothing_but_the_output_remains_of_a_finished_run(tiny_workspace: Workspace):
    with pytest.raises(Broken):
        run_finetune(tiny_workspace, BreaksOff(2))
    run_finetune(tiny_workspace, BreaksOff())
    assert not tiny_workspace.resume("scratch@2016-d6-scratch").exists()
    assert [p.name for p in tiny_workspace.finetuned(*CELL).parent.iterdir()] == ["scratch"]


def test_the_state_of_other_parameters_is_refused_with_a_note(tiny_workspace: Workspace):
    with pytest.raises(Broken):
        run_finetune(tiny_workspace, BreaksOff(2))
    changed = restudy(tiny_workspace, finetune={"learning_rate": 1e-3})
    reporter = BreaksOff()
    run_finetune(changed, reporter)
    assert reporter.epochs == 6
    assert any("refused" in note and "other data, parameters or code" in note for note in reporter.notes)


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "best.safetensors", "optimiser.safetensors"])
def test_a_torn_state_is_refused_with_a_note(tiny_workspace: Workspace, name: str):
    with pytest.raises(Broken):
        run_finetune(tiny_workspace, BreaksOff(1))
    file = tiny_workspace.resume("scratch@2016-d6-scratch") / f"seed-{tiny_workspace.study.seed}" / name
    file.write_bytes(file.read_bytes()[:-20])
    reporter = BreaksOff()
    run_finetune(tiny_workspace, reporter)
    assert reporter.epochs == 6
    assert any("refused" in note and "torn" in note for note in reporter.notes)


def _remove(directory: Path) -> None:
    directory.rename(directory.with_name("aside"))
