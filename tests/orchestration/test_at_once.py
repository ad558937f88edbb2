"""Two people and a schedule materialise, and a third person runs `dvc repro`, all at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from toy_workspace import Toy

from orchestration.home import CHECKOUT

pytestmark = pytest.mark.orchestration
PATHS = os.pathsep.join([str(CHECKOUT), str(Path(__file__).parent)])


def start(toy: Toy, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], cwd=toy.root, env=os.environ | {"PYTHONPATH": PATHS}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def person(toy: Toy, *wishes: str) -> subprocess.Popen[str]:
    return start(toy, str(Path(__file__).with_name("person.py")), str(toy.root), *wishes)


def test_overlapping_wishes_are_all_met_nothing_is_computed_twice_and_no_entry_is_lost(toy: Toy) -> None:
    first = ["fetch", "prepare@2018", "prepare@2019", "pretrain"]
    toy.dvc("repro", "-q", *first)
    assert len(toy.ran()) == 4
    home = toy.root / ".dagster"
    home.mkdir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert toy.one(instance, "raw_archive").success  # Dagster's tables must be there before several use them
    crowd = [
        person(toy, "finetuned_scratch|full|2018", "evaluation_scratch|full|2018"),
        person(toy, "finetuned_scratch|full|2018", "finetuned_pretrained|full|2018"),
        person(toy, "finetuned_scratch|full|2019", "finetuned_scratch|full|2018"),
        start(toy, "-m", "dvc", "--wait-for-lock", "repro", "-s", "finetune@2019-full-pretrained"),
    ]
    said = [process.communicate()[0] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * len(crowd), "\n".join(said)
    assert "Unable to acquire lock" not in "".join(said)
    assert sorted(toy.ran()) == [
        "evaluate 2018 full scratch", "finetune 2018 full pretrained", "finetune 2018 full scratch",
        "finetune 2019 full pretrained", "finetune 2019 full scratch",
    ]  # fmt: skip
    stages = yaml.safe_load(toy.lock)["stages"]
    assert len(stages) == len(first) + 5
    assert "up to date" in toy.dvc("status", *stages)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
