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
    argv, told = json.loads(line)
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
main()
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

    def start(self, *argv: str) -> int:
        assert self.server.stdin and self.server.stdout
        print(json.dumps([argv, str(self.told)]), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def end(self, process: int, number: signal.Signals) -> int:
        """Exit status after a signal; the run may have ended before it."""
        assert self.server.stdout
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_step_that_is_asked_to_stop_says_so_and_can_go_on(
    make: Make, forks: Forks, number: signal.Signals, status: int
) -> None:
    argv, output = STEPS["finetune"]
    workspace = restudy(make("finetune"), finetune={"epochs": 200})
    state = workspace.resume("scratch@2016-d6-scratch") / f"seed-{workspace.study.seed}" / "state.json"
    process = forks.start(*argv, "--workspace", str(workspace.root))
    while running(process) and not state.exists():
        time.sleep(0.002)
    assert forks.end(process, number) == status
    told = forks.told.read_text()
    assert told.splitlines()[-1] == f"stcln: stopped by {number.name}; run it again to go on."
    assert "Traceback" not in told
    assert state.exists() and not (workspace.root / output).exists() and not halves(workspace.root / output)


def test_a_stopped_simulation_leaves_nothing(forks: Forks, tmp_path: Path) -> None:
    process = forks.start("simulate", str(tmp_path / "a"), "--tiles", "900")
    while running(process) and not halves(tmp_path / "a"):
        time.sleep(0.002)
    assert forks.end(process, signal.SIGTERM) == 143
    assert not any(tmp_path.iterdir())
