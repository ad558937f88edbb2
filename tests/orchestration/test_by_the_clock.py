"""The sensor and the schedule under a real daemon, switched on as a person does it, with runs from its queue."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import toy_workspace
from own_daemon import daemon, environment
from toy_workspace import Toy
from watched import cube, watch

from orchestration.home import make_home
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

LOCATION = Path(__file__).with_name("watching.py")
PATIENCE = 240.0  # seconds, on a busy machine
NOW = str(datetime.now(UTC).year)  # the season that is under way


class Watch:
    """A toy study of 2018 and of this year under Dagster, whose source 2020 will reach."""

    def __init__(self, root: Path) -> None:
        params = toy_workspace.PARAMS.read_text().replace("season: [2018, 2019]", f"season: [2018, 2020, {NOW}]", 1)
        toy_workspace.make(root, params=params.replace("seasons: [2018, 2019]", "seasons: [2018]"))
        self.toy, self.home = Toy(root), make_home(root)
        self.toy.edit(f"[2018, 2020, {NOW}]", f"[2018, {NOW}]")
        self.source = watch(self.toy)
        (self.source / "2019.nc").unlink()
        cube(self.source / f"{NOW}.nc", None, int(NOW))
        self.instance = dg.DagsterInstance.from_config(str(self.home))

    def switch_on(self, kind: str, name: str) -> None:
        """Start a sensor or a schedule."""
        words = ["-m", "dagster", kind, "start", name, "-f", str(LOCATION), "-a", "location"]
        there = environment(self.toy.root, self.home)
        done = subprocess.run([sys.executable, *words], env=there, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def runs(self, season: str) -> list[dg.DagsterRun]:
        """Those of the job `season`."""
        tags = {"dagster/partition": season}
        return [*self.instance.get_runs(dg.RunsFilter(job_name="season", tags=tags))]

    def looks(self) -> int:
        """How often the sensor has looked at the source."""
        (state,) = [s for s in self.instance.all_instigator_state() if s.instigator_name == "new_season"]
        return len(self.instance.get_ticks(state.instigator_origin_id, state.selector_id))

    def wait(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE
        while not true():
            words = (self.toy.root / "daemon.log").read_text()
            assert time.monotonic() < until, f"not in {PATIENCE:.0f} s: {what}\n{words[-3000:]}"
            time.sleep(0.5)

    def ended(self, season: str) -> bool:
        """Whether a run of a season has ended; well, or the test has."""
        states = {run.status for run in self.runs(season)}
        assert not states & {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
        return states == {dg.DagsterRunStatus.SUCCESS}


def test_a_season_that_appears_is_trained_once_and_one_under_way_is_fetched_again_by_the_clock(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "workspace")
    watch.switch_on("sensor", "new_season")
    watch.switch_on("schedule", "running_season")
    with watch.instance:
        with daemon(watch.toy.root, watch.home, LOCATION):
            watch.wait(lambda: watch.looks() > 0, "the source is looked at")
            cube(watch.source / "2020.nc", None, 2020)
            watch.wait(lambda: watch.ended("2020"), "2020 is taken up")
            watch.wait(lambda: watch.ended(NOW), f"{NOW} is fetched again")
        ran = watch.toy.ran()
        with daemon(watch.toy.root, watch.home, LOCATION):  # it was started anew
            before = watch.looks()
            watch.wait(lambda: watch.looks() > before + 2, "the source is looked at again")
        assert [len(watch.runs(season)) for season in ("2018", "2020", NOW)] == [0, 1, 1]
        made = watch.instance.get_materialized_partitions(dg.AssetKey("evaluation_scratch"))
    assert Workspace(watch.toy.root).study.cells.season == ("2018", NOW, "2020")
    assert ran.count("fetch") == 2 and ran.count("finetune 2020 full scratch") == 1
    assert {f"prepare {season}" for season in ("2020", NOW)} <= {*ran}
    assert made == {"full|2020"}  # of the season under way no whole length is due
