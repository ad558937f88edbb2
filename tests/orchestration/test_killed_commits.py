"""Killed at any moment of a commit: dvc.lock has every entry it had, whole, and running it again mends the rest."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import dagster as dg
import pytest
import yaml
from toy_workspace import Toy

from orchestration.ledger import DvcLedger

pytestmark = pytest.mark.orchestration
STAGES = {
    "scratch@2018-full-scratch": "models/finetuned/2018/full/scratch",
    "finetune@2019-full-pretrained": "models/finetuned/2019/full/pretrained",
}
KILLS = 12


def commit_for_ever(root: Path) -> None:
    """Steps that make another output each time, and their commits."""
    for number in range(10**6):
        for stage, output in STAGES.items():
            weights = root / output / "weights.txt"
            weights.unlink(missing_ok=True)  # it may be a link into the cache
            weights.write_text(f"{stage} {number} {time.time_ns()}")
            DvcLedger(root).commit(stage)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_entry_is_lost_or_torn_and_a_rerun_mends(done: tuple[Toy, dg.DagsterInstance], seed: int) -> None:
    toy, instance = done
    draw, before = random.Random(seed), yaml.safe_load(toy.lock)["stages"]
    for _ in range(KILLS):
        worker = multiprocessing.get_context("fork").Process(target=commit_for_ever, args=(toy.root,))
        worker.start()
        time.sleep(draw.uniform(0.05, 1.0))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        after = yaml.safe_load(toy.lock)["stages"]
        assert list(after) == list(before)
        assert all(after[name] == entry for name, entry in before.items() if name not in STAGES)
        assert all(after[name].keys() == before[name].keys() for name in STAGES)
    toy.dagster(instance)
    assert "up to date" in toy.dvc("status")
