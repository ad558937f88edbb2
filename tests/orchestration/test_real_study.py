"""A real study, run by Dagster's one command and by `dvc repro`; and what its steps tell Dagster."""

import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import psutil
import pytest
import real_study
from toy_workspace import Toy

from orchestration.resources import resources
from stcln.storage import read_json

pytestmark = [pytest.mark.orchestration, pytest.mark.long]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real workspace that has not run; copy it."""
    root = tmp_path_factory.mktemp("real") / "workspace"
    real_study.make(root)
    return root


@pytest.fixture
def fresh(made: Path, tmp_path: Path) -> Toy:
    """A copy of it, with this deployment's own ledger and runner."""
    toy = Toy(Path(shutil.copytree(made, tmp_path / "workspace")))
    toy.resources = resources(toy.root)
    return toy


def test_the_study_and_dvc_repro_write_the_same_lock_and_a_second_study_computes_nothing(
    fresh: Toy, made: Path, tmp_path: Path
) -> None:
    twin = Toy(Path(shutil.copytree(made, tmp_path / "twin")))
    with ThreadPoolExecutor() as both:
        repro = both.submit(real_study.call, twin.root, "-m", "dvc", "repro", "-q")
        said = real_study.call(fresh.root, "-m", "orchestration.study")
        repro.result()
    assert fresh.lock == twin.lock
    for toy in (fresh, twin):
        assert "up to date" in real_study.call(toy.root, "-m", "dvc", "status")
        assert all(read_json(toy.root / "reports/cost.json").values()), "though what each step took stands beside"
    steps = len(fresh.plan.steps())
    assert f"0 of {steps} stood or were not due, {steps} run" in said
    assert "(simulated data)" in said and f"report: {fresh.root / 'reports/index.html'}" in said
    assert f"{steps} of {steps} stood or were not due, 0 run" in real_study.call(
        fresh.root, "-m", "orchestration.study"
    )


def test_a_steps_progress_summary_and_version_reach_dagster(fresh: Toy, instance: dg.DagsterInstance) -> None:
    result = fresh.one(instance, "raw_archive")
    assert result.success
    (made,) = result.asset_materializations_for_node("raw_archive")
    assert made.metadata["bytes"].value > 0  # of the summary alone
    assert made.metadata["simulated"].value is True and made.metadata["computed"].value is True
    assert made.tags and made.tags["dagster/data_version"] in fresh.lock
    lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("8/8" in line for line in lines)


def test_bad_input_ends_the_run_with_its_sentence_and_the_step_with_status_2(
    fresh: Toy, instance: dg.DagsterInstance
) -> None:
    result = fresh.one(instance, "season_store", "2018")  # nothing has been fetched
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    data = failed.step_failure_data.user_failure_data
    assert data and "data/raw" in str(data.description)
    step = [sys.executable, "-m", "orchestration.step", "prepare", "--season", "2018"]
    env = real_study.workspace(fresh.root)
    assert subprocess.run(step, cwd=fresh.root, env=env, capture_output=True, check=False).returncode == 2


def test_an_interrupt_reaches_the_step(fresh: Toy) -> None:
    fresh.edit("tiles: 8", "tiles: 100000")
    study = subprocess.Popen(
        [sys.executable, "-m", "orchestration.study"], cwd=fresh.root, env=real_study.workspace(fresh.root)
    )
    step = _child(study.pid, "orchestration.step")
    study.send_signal(signal.SIGINT)
    assert study.wait(60) != 0
    assert not real_study.alive(step)
    assert not (fresh.root / "data/raw").exists()


def _child(parent: int, name: str) -> psutil.Process:
    """The child process that runs a module, once it works."""
    for _ in range(600):
        for child in psutil.Process(parent).children(recursive=True):
            if name in child.cmdline() and child.cpu_times().user > 3:  # past its imports
                return child
        time.sleep(0.1)
    raise AssertionError(f"{name} was not started")
