"""A run that was broken off ends with the bytes of one that was not."""

import errno
import itertools
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from tiny_study import restudy

from stcln.cli import run_verb
from stcln.errors import BadInput
from stcln.events import Silent, Value
from stcln.storage import digest
from stcln.training import loop
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "d6", "scratch")
ARGV = ("--season", "2016", "--length", "d6", "--arm", "scratch")


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
        self.notes.append(f"{message} {values}")


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


class Updates(list[int]):
    """The updates of the weights so far, one entry each; the one numbered `breaks` fails before it is made."""

    breaks = 0


def counted(patch: pytest.MonkeyPatch) -> Updates:
    done, honest = Updates(), torch.optim.Adam.step

    def step(self, *args):
        if len(done) + 1 == done.breaks:
            raise Broken
        done.append(1)
        return honest(self, *args)

    patch.setattr(torch.optim.Adam, "step", step)
    return done


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Updates:
    return counted(monkeypatch)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state is saved after every step."""
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)


@pytest.mark.parametrize("run", [run_pretrain, run_finetune])
def test_when_states_are_saved_changes_no_byte_and_a_run_goes_on_at_the_very_step(
    tiny_workspace: Workspace, run: Callable[[Workspace, BreaksOff], Path], updates: Updates, every_step: None
):
    with pytest.MonkeyPatch.context() as never:
        never.setattr(loop, "SAVE_EVERY", math.inf)
        expected = digest(output := run(tiny_workspace, BreaksOff()))
    _remove(output)
    total = len(updates)
    updates.clear()
    for seed in range(3):
        updates.breaks = len(updates) + 1 + random.Random(seed).randint(1, total // 4)
        with pytest.raises(Broken):
            run(tiny_workspace, BreaksOff())
    updates.breaks = 0
    assert digest(run(tiny_workspace, BreaksOff())) == expected
    assert len(updates) == total


def generations(workspace: Workspace) -> list[Path]:
    return sorted((workspace.resume("scratch@2016-d6-scratch") / f"seed-{workspace.study.seed}").iterdir())


STEPS = 9  # of a run of one seed


@pytest.fixture(scope="module")
def half(_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with the states of a run that failed at its sixth update, and the digest of a whole run."""
    root = tmp_path_factory.mktemp("half") / "tiny"
    shutil.copytree(_tiny, root)
    workspace = restudy(Workspace(root), finetune={"seeds": 1})
    expected = digest(output := run_finetune(workspace, BreaksOff()))
    shutil.rmtree(output)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Broken):
        patch.setattr(loop, "SAVE_EVERY", 0.0)
        counted(patch).breaks = 6
        run_finetune(workspace, BreaksOff())
    assert [path.name for path in generations(workspace)] == ["000001-00000001", "000001-00000002"]
    return root, expected


@pytest.fixture
def broken(half: tuple[Path, str], tmp_path: Path) -> tuple[Workspace, str]:
    """The same, to be changed."""
    shutil.copytree(half[0], tmp_path / "tiny")
    return Workspace(tmp_path / "tiny"), half[1]


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


FILES = ["state.json", "weights.safetensors", "best.safetensors", "optimiser.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_torn_state_is_refused_by_name_and_the_one_before_it_taken_up(
    broken: tuple[Workspace, str], name: str, updates: Updates
):
    workspace, expected = broken
    before, newest = generations(workspace)
    tear(newest / name)
    reporter = BreaksOff()
    assert digest(run_finetune(workspace, reporter)) == expected
    assert len(updates) == STEPS - 4
    assert "torn" in reporter.notes[0] and name in reporter.notes[0] and str(newest) in reporter.notes[0]
    assert reporter.notes[1].startswith("resumed") and str(before) in reporter.notes[1]


@pytest.mark.parametrize("field", ["parts", "losses", "files"])
def test_a_state_of_which_a_field_was_changed_is_torn(broken: tuple[Workspace, str], field: str, updates: Updates):
    workspace, expected = broken
    state = generations(workspace)[1] / "state.json"
    made = json.loads(state.read_text())
    made[field] = type(made[field])()
    state.write_text(json.dumps(made))
    (state.parent.parent / "000009-x").write_text("of somebody else")
    reporter = BreaksOff()
    assert digest(run_finetune(workspace, reporter)) == expected
    assert len(updates) == STEPS - 4 and "torn (state.json)" in reporter.notes[0]


def test_where_every_state_is_torn_each_is_named_and_training_starts_afresh(
    broken: tuple[Workspace, str], updates: Updates
):
    workspace, expected = broken
    states = generations(workspace)
    for state, name in zip(states, FILES, strict=False):
        tear(state / name)
    reporter = BreaksOff()
    assert digest(run_finetune(workspace, reporter)) == expected
    assert len(updates) == STEPS
    assert all(str(state) in note for state, note in zip(reversed(states), reporter.notes, strict=False))
    assert "starts afresh" in reporter.notes[2]


def test_a_foreign_state_is_refused_by_name_and_one_s_own_taken_up(broken: tuple[Workspace, str], updates: Updates):
    workspace, expected = broken
    state = generations(workspace)[1] / "state.json"
    state.write_text(state.read_text().replace('"identity": "', '"identity": "another'))
    reporter = BreaksOff()
    assert digest(run_finetune(workspace, reporter)) == expected
    assert len(updates) == STEPS - 4 and "other data, parameters or code" in reporter.notes[0]


AFTER_THE_RENAME = ["000001-00000000", "000002-00000000"]


@pytest.mark.parametrize("synchronised", [1, 6])
def test_a_disk_without_room_keeps_the_states_before_and_nothing_half(
    tiny_workspace: Workspace, half: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, synchronised: int
):
    """A disk may find out only as a file is synchronised."""
    restudy(tiny_workspace, finetune={"seeds": 1})
    calls, honest = itertools.count(1), os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == 6 + synchronised:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BadInput, match=r"seed-7.*: No space left on device; free space and run it again"):
            run_verb(["finetune", *ARGV, "-w", str(tiny_workspace.root)], Silent())
    assert [path.name for path in generations(tiny_workspace)] in (["000001-00000000"], AFTER_THE_RENAME)
    assert digest(run_finetune(Workspace(tiny_workspace.root), BreaksOff())) == half[1]


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
    assert any("starts afresh" in note for note in reporter.notes)
    assert any("refused" in note and "other data, parameters or code" in note for note in reporter.notes)


def _remove(directory: Path) -> None:
    directory.rename(directory.with_name("aside"))
