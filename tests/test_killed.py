"""Killed at any moment and run again, a step gives the bytes of an unbroken run and leaves nothing else."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from refusals import study
from tiny_study import STUDY, restudy

from stcln.cli import run_verb
from stcln.events import Silent
from stcln.storage import digest
from stcln.workspace import Workspace

CELL = ["--season", "2016", "--length", "d6", "--arm", "scratch"]
STEPS = {
    "fetch simulated": (["fetch"], "data/raw"),
    "fetch a directory": (["fetch"], "data/raw"),
    "prepare": (["prepare", "--season", "2018"], "data/seasons/2018.zarr"),
    "pretrain": (["pretrain"], "models/pretrained"),
    "finetune": (["finetune", *CELL], "models/finetuned/2016/d6/scratch"),
}
# Everything is imported once; each run is a fork of that, so that the moments are moments of the step.
FORKS = """
import json, os, sys
import stcln.data.fetch, stcln.data.prepare, stcln.training.pretrain, stcln.training.finetune
import torch._dynamo  # which the first optimiser would import
from stcln.cli import main
for line in sys.stdin:
    argv, told, hook = json.loads(line)
    pid = os.fork()
    if not pid:
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
log = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(log, 1), os.dup2(log, 2)
sys.argv = ["stcln", *argv]
exec(hook)
main()
"""
# What a run may be made to do: to be said before it.
HOOKS = """
import ctypes, itertools, pathlib, resource, shutil, signal, torch
from stcln.training import loop

def at(owner, name, number, what, after=False):
    honest, calls = getattr(owner, name), itertools.count(1)
    def watched(*args, **names):
        here = next(calls) == number
        if here and not after:
            what()
        found = honest(*args, **names)
        if here and after:
            what()
        return found
    setattr(owner, name, watched)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def hang():
    "One call of C that no signal ends and no handler interrupts: a lock taken twice."
    pathlib.Path(told).with_name("hangs").touch()
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)

def no_large_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
"""
Make = Callable[[str], Workspace]


@pytest.fixture
def make(tiny_workspace: Workspace, archives, tmp_path: Path) -> Make:
    """A function: the workspace of a step, before it."""

    def workspace(step: str) -> Workspace:
        root = tmp_path / "work"
        if step in ("pretrain", "finetune"):
            return restudy(tiny_workspace, finetune={"epochs": 4}, pretrain={"epochs": 4})
        root.mkdir()
        if step == "fetch simulated":
            (root / "params.yaml").write_text(yaml.safe_dump(STUDY | {"simulation": {"tiles": 4, "size": 16}}))
            return Workspace(root)
        study(root, "mtlcc", source="../archive")
        shutil.copytree(archives["mtlcc"], tmp_path / "archive" if step == "fetch a directory" else root / "data/raw")
        if step == "fetch a directory":
            for number in range(100):
                (tmp_path / f"archive/{number}.txt").touch()
        return Workspace(root)

    return workspace


class Forks:
    """Runs of the command line, one at a time; what the last one told is in `told`."""

    def __init__(self, told: Path) -> None:
        self.told = told
        self.server = subprocess.Popen(
            [sys.executable, "-c", FORKS], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def hangs(self) -> Path:
        """There once a run does nothing any more."""
        return self.told.with_name("hangs")

    def start(self, *argv: str, hook: str = "") -> int:
        assert self.server.stdin and self.server.stdout
        self.hangs.unlink(missing_ok=True)
        print(json.dumps([argv, str(self.told), HOOKS + hook if hook else ""]), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def end(self, process: int, *numbers: signal.Signals) -> int:
        """Exit status after signals, if any; the run may have ended before them."""
        assert self.server.stdout
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("told") / "told")
    yield forks
    forks.server.kill()
    forks.server.communicate()


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def halves(output: Path) -> list[Path]:
    return [*output.parent.glob(".*.part")]


def strays(workspace: Workspace) -> list[str]:
    """What only a broken run leaves: half directories, state that was taken up."""
    return [
        p.name
        for p in workspace.root.rglob("*")
        if p.suffix in (".part", ".old") or (p.name == "resume" and any(p.iterdir()))
    ]


def unbroken(workspace: Workspace, argv: list[str], output: str) -> tuple[str, float]:
    """Digest of the output of a run that nothing breaks, and its seconds; the output is taken away."""
    began = time.perf_counter()
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    took = time.perf_counter() - began
    found = digest(workspace.root / output)
    shutil.rmtree(workspace.root / output)
    return found, took


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_at_any_moment_and_run_again_gives_the_same_bytes(make: Make, forks: Forks, step: str) -> None:
    argv, output = STEPS[step]
    workspace = make(step)
    expected, took = unbroken(workspace, argv, output)
    rng = random.Random(f"moments of {step}")
    for moment in (0.3 * took * rng.random(), took * rng.random(), None):
        process = forks.start(*argv, "--workspace", str(workspace.root))
        if moment is None:  # while the output is half there
            while running(process) and not halves(workspace.root / output):
                pass
        else:
            time.sleep(moment)
        forks.end(process, signal.SIGKILL)
        assert not (workspace.root / output).exists() or digest(workspace.root / output) == expected
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    assert digest(workspace.root / output) == expected
    assert strays(workspace) == []


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """The digest of a step's output by its name, once it is known."""
    return {}


def once(make: Make, step: str, known: dict[str, str]) -> Workspace:
    """The workspace of a training of one seed; the digest of its output is in `known`."""
    workspace = restudy(make(step), finetune={"seeds": 1})
    if step not in known:
        known[step], _ = unbroken(workspace, *STEPS[step])
    return workspace


def rest(step: str, rng: random.Random) -> Iterator[str]:
    """Where a training is killed, one run after another; each begins where the one before had come to."""
    update = f"at(torch.optim.Adam, 'step', {{}}, die, after={rng.random() < 0.5})"
    saving = "loop.SAVE_EVERY = 0; "  # after every step
    yield update.format(rng.randint(4, 6))  # in the second epoch
    yield saving + update.format(rng.randint(2, 4))
    yield saving + f"at(pathlib.Path, 'write_bytes', {rng.randint(1, 3)}, die, after={rng.random() < 0.5})"
    yield saving + f"at(pathlib.Path, 'write_text', {rng.randint(2, 3)}, die, after=True)"
    for after in (False, True):  # the first three renames are those of the stage's own record
        yield saving + f"at(pathlib.Path, 'rename', 4, die, after={after})"
    yield saving + f"at(os, 'fsync', {rng.randint(1, 6)}, die)"
    yield saving + f"at(shutil, 'rmtree', {rng.randint(4, 6)}, die, after={rng.random() < 0.5})"


@pytest.mark.parametrize("step", ["pretrain", "finetune"])
def test_a_training_killed_at_any_step_and_inside_a_save_gives_the_same_bytes(
    make: Make, forks: Forks, known: dict[str, str], step: str
) -> None:
    argv, output = STEPS[step]
    workspace = once(make, step, known)
    for hook in rest(step, random.Random(f"steps of {step}")):
        process = forks.start(*argv, "--workspace", str(workspace.root), hook=hook)
        assert forks.end(process) == -signal.SIGKILL, (hook, forks.told.read_text())
        assert not (workspace.root / output).exists()
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    assert digest(workspace.root / output) == known[step]
    assert strays(workspace) == []


def states(workspace: Workspace) -> list[str]:
    """The states that stand of the runs of a workspace."""
    return sorted(path.parent.name for path in workspace.root.glob(".stcln/resume/*/*/[0-9]*/state.json"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_step_that_is_asked_to_stop_says_so_and_goes_on_to_the_same_bytes(
    make: Make, forks: Forks, number: signal.Signals, status: int
) -> None:
    argv, output = STEPS["finetune"]
    workspace = restudy(make("finetune"), finetune={"epochs": 8})
    expected, took = unbroken(workspace, argv, output)
    rng = random.Random(f"moments of {number}")
    words = f"stopped by {number.name}; run it again to go on."
    event = {"event": "stopped", "signal": number.name, "message": words}
    for signals, log, line in (
        ([number], "text", f"stcln: {words}"),
        ([number, number], "json", json.dumps(event)),
    ):
        before = states(workspace)
        process = forks.start(*argv, "--log", log, "--workspace", str(workspace.root))
        while running(process) and states(workspace) == before:
            time.sleep(0.002)
        time.sleep(0.1 * took * rng.random())
        assert forks.end(process, *signals) == status
        told = forks.told.read_text()
        assert told.splitlines()[-1] == line
        assert "Traceback" not in told and states(workspace) != before
        assert not (workspace.root / output).exists() and not halves(workspace.root / output)
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    assert digest(workspace.root / output) == expected


@pytest.mark.parametrize(
    ("step", "place", "number", "status"),
    [
        ("pretrain", "stcln.training.pretrain.Filling, 'predict'", signal.SIGTERM, 143),
        ("finetune", "stcln.training.finetune.Classifying, 'predict'", signal.SIGINT, 130),
    ],
)
def test_a_signal_in_one_long_call_of_a_step_is_answered_in_five_seconds_and_loses_only_that_step(
    make: Make, forks: Forks, known: dict[str, str], step: str, place: str, number: signal.Signals, status: int
) -> None:
    """The call comes after the forward pass, which has moved BatchNorm's statistics."""
    argv, output = STEPS[step]
    workspace = once(make, step, known)
    hook = f"at({place}, 2, hang, after=True)"
    process = forks.start(*argv, "--log", "json", "--workspace", str(workspace.root), hook=hook)
    while running(process) and not forks.hangs.exists():
        time.sleep(0.002)
    began = time.monotonic()
    assert forks.end(process, number) == status
    assert time.monotonic() - began < 5
    words = f"stopped by {number.name}; run it again to go on."
    assert json.loads(forks.told.read_text().splitlines()[-1]) == {
        "event": "stopped",
        "signal": number.name,
        "message": words,
    }
    assert states(workspace) == ["000000-00000001"]
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    assert digest(workspace.root / output) == known[step]
    assert strays(workspace) == []


@pytest.mark.parametrize(
    ("step", "place", "path"),
    [
        ("pretrain", "stcln.training.pretrain, 'save', 1", "models/pretrained"),
        ("finetune", "loop._Training, 'save', 2", ".stcln/resume/scratch@2016-d6-scratch/seed-7/000002-00000000"),
        ("finetune", "stcln.training.finetune.Trained, 'write', 1", "models/finetuned/2016/d6/scratch"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_with_the_path_and_loses_nothing(
    make: Make, forks: Forks, known: dict[str, str], step: str, place: str, path: str
) -> None:
    argv, output = STEPS[step]
    workspace = once(make, step, known)
    process = forks.start(*argv, "--workspace", str(workspace.root), hook=f"at({place}, no_large_files)")
    assert forks.end(process) == 2
    sentence = forks.told.read_text().splitlines()[-1]
    assert sentence == f"stcln: {workspace.root / path}: File too large; name a place that takes larger files."
    assert "000001-00000000" in states(workspace) or "000004-00000000" in states(workspace)
    assert not (workspace.root / output).exists() and not halves(workspace.root / output)
    assert not [*workspace.root.glob(".stcln/resume/*/*/.*")]
    run_verb([*argv, "--workspace", str(workspace.root)], Silent())
    assert digest(workspace.root / output) == known[step]


def test_a_stopped_simulation_leaves_nothing(forks: Forks, tmp_path: Path) -> None:
    process = forks.start("simulate", str(tmp_path / "a"), "--tiles", "900")
    while running(process) and not halves(tmp_path / "a"):
        time.sleep(0.002)
    assert forks.end(process, signal.SIGTERM) == 143
    assert not any(tmp_path.iterdir())
