"""A season is taken up once: when it is whole, whatever is killed, started twice, withdrawn or out of reach."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from toy_workspace import Toy
from watched import Daemon, Told, cube, tick, watch

from orchestration.definitions import build_defs
from orchestration.seasons.arrival import Memory, look
from orchestration.seasons.register import register
from orchestration.study import JOBS
from stcln.errors import BadInput
from stcln.runs import alone
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration


def seasons(toy: Toy) -> tuple[str, ...]:
    return Workspace(toy.root).study.cells.season


def test_a_season_is_taken_up_when_two_looks_find_the_same_files(toy: Toy, instance: dg.DagsterInstance) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    before = (toy.root / "params.yaml").read_text()
    assert daemon.says() == "No season in source beyond 2018, 2019."
    cube(source / "2020.nc", None, 2020)
    assert "Season 2020 is arriving, 1 files, 0.0 MB: taken up if the next look" in daemon.says()
    assert seasons(toy) == ("2018", "2019")
    result = daemon.tick()
    assert [request.partition_key for request in result.run_requests or []] == ["2020"]
    assert instance.get_dynamic_partitions("season") == ["2020"]
    after = (toy.root / "params.yaml").read_text()
    assert after == before.replace("season: [2018, 2019]\n", "season: [2018, 2019, 2020]\n")
    assert daemon.says() == "No season in source beyond 2018, 2019, 2020."


def test_a_season_that_grows_or_is_cut_off_waits_and_the_reason_says_for_what(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    cube(source / "whole.nc", "2020", 2020)
    whole = (source / "whole.nc").read_bytes()
    (source / "whole.nc").unlink()
    half = source / "2020.nc"
    half.write_bytes(whole[:2000])
    assert "2020.nc cannot be read yet: not a NetCDF file" in daemon.says()
    assert "2020.nc cannot be read yet" in daemon.says()  # the same twice, and still no season
    half.write_bytes(whole)
    assert "arriving" in daemon.says()
    os.utime(half, (1, 1))
    assert "arriving" in daemon.says()
    assert seasons(toy) == ("2018", "2019")
    assert daemon.tick().run_requests


def test_a_season_whose_tiles_cannot_be_read_waits(toy: Toy, instance: dg.DagsterInstance) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    cube(source / "2020.nc", None, 2017)  # its images are another year's
    daemon.tick()
    assert "Season 2020 cannot be read yet: " in daemon.says() and "between 2020-01-01" in daemon.says()
    assert seasons(toy) == ("2018", "2019")


def test_a_tick_that_is_killed_after_registering_is_made_up_for_by_the_next(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    cube(source / "2020.nc", None, 2020)
    daemon.tick()
    lost = daemon.tick(killed=True)
    assert seasons(toy) == ("2018", "2019", "2020") and instance.get_dynamic_partitions("season") == []
    again = daemon.tick()
    assert [r.run_key for r in again.run_requests or []] == [r.run_key for r in lost.run_requests or []]
    assert instance.get_dynamic_partitions("season") == ["2020"]
    assert (toy.root / "params.yaml").read_text().count("2020") == 1
    daemon.says()


def test_a_season_waits_while_the_study_runs_which_would_be_refused_with_another_list_of_seasons(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    cube(source / "2020.nc", None, 2020)
    daemon.tick()
    with alone(Workspace(toy.root), JOBS):
        waits = tick(daemon.defs, "new_season", instance, daemon.cursor)
    assert isinstance(waits, dg.SkipReason) and "Season 2020 waits until the run of" in str(waits.skip_message)
    assert seasons(toy) == ("2018", "2019")
    assert daemon.tick().run_requests


def test_people_are_told_of_a_season_that_changes_also_when_another_is_taken_up(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    source, told = watch(toy), Told()
    toy.resources["notifier"] = told
    daemon = Daemon(toy, instance)
    cube(source / "2020.nc", None, 2020)
    daemon.tick()
    os.utime(source / "2018.nc", (1, 1))
    assert daemon.tick().run_requests
    ((title, text),) = told.messages
    assert title == "toy: Season 2018 has changed at source" and "materialise raw_archive with `again`" in text


def test_two_daemons_at_once_ask_for_the_same_run(toy: Toy, instance: dg.DagsterInstance) -> None:
    source, one = watch(toy), Daemon(toy, instance)
    cube(source / "2020.nc", None, 2020)
    one.tick()
    other = Daemon(toy, instance)
    other.cursor = one.cursor
    keys = [[r.run_key for r in daemon.tick().run_requests or []] for daemon in (one, other)]
    assert keys[0] == keys[1] and len(keys[0]) == 1
    assert instance.get_dynamic_partitions("season") == ["2020"] and seasons(toy) == ("2018", "2019", "2020")


def test_processes_that_register_at_the_same_moment_lose_nothing(toy: Toy) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestration.seasons.register import register; "
        "from stcln.workspace import Workspace; register(Workspace(Path(sys.argv[1])), sys.argv[2:])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(toy.root), *names])
        for names in (["2020", "2021"], ["2021", "2022"], ["2020"])
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert sorted(seasons(toy)) == ["2018", "2019", "2020", "2021", "2022"]


def test_a_season_that_is_withdrawn_is_told_once_and_nothing_is_deleted(toy: Toy, instance: dg.DagsterInstance) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    daemon.tick()
    (source / "2018.nc").rename(toy.root / "away.nc")
    before = sorted(path for path in toy.root.rglob("*") if ".stcln" not in path.parts)
    found = look(Workspace(toy.root), Memory.of(daemon.cursor))
    (news,) = found.news
    assert "Season 2018 is gone from source" in news and look(Workspace(toy.root), found.memory).news == ()
    assert "Season 2018 is gone from source: its store, models and scores stay." in daemon.says()
    assert sorted(path for path in toy.root.rglob("*") if ".stcln" not in path.parts) == before
    (toy.root / "away.nc").rename(source / "2018.nc")
    assert "gone" not in daemon.says()
    (source / "2018.nc").write_bytes(b"\x89HDF half of its correction")
    assert "gone" not in daemon.says()


def test_a_season_that_is_corrected_at_the_source_is_told_once(toy: Toy, instance: dg.DagsterInstance) -> None:
    source, daemon = watch(toy), Daemon(toy, instance)
    cube(source / "2020.nc", None, 2020)
    daemon.tick()
    assert daemon.tick().run_requests
    assert "changed" not in daemon.says()
    for season in ("2018", "2020"):
        os.utime(source / f"{season}.nc", (1, 1))
        assert f"Season {season} has changed at source: materialise raw_archive with `again`" in daemon.says()
        assert "changed" not in daemon.says()


@pytest.mark.parametrize(
    ("said", "change", "why"),
    [("source: source", "source: nowhere", "nowhere is missing"), ("root: .", "root: below", "no such")],
)
def test_a_source_that_cannot_be_reached_is_a_sentence(
    toy: Toy, instance: dg.DagsterInstance, said: str, change: str, why: str
) -> None:
    watch(toy)
    toy.edit(said, change)
    result = tick(build_defs(toy.root, toy.resources), "new_season", instance)
    assert isinstance(result, dg.SkipReason) and why in str(result.skip_message)


def test_a_source_that_cannot_grow_is_not_watched(toy: Toy, instance: dg.DagsterInstance) -> None:
    assert Daemon(toy, instance).says() == "simulated is not watched: it does not grow, or cannot be listed."


def test_params_stay_as_they_were_if_the_study_would_be_invalid(toy: Toy) -> None:
    path = toy.root / "params.yaml"
    before = path.read_bytes()
    with pytest.raises(BadInput):
        register(Workspace(toy.root), ["0999"])
    register(Workspace(toy.root), ["2019"])
    assert path.read_bytes() == before
    assert not list(toy.root.glob(".params*"))


def test_a_season_enters_the_study_that_params_links_to_and_the_link_stays(toy: Toy) -> None:
    study, params = Path(toy.root / "study.yaml"), toy.root / "params.yaml"
    params.rename(study)
    params.symlink_to("study.yaml")
    register(Workspace(toy.root), ["2020"])
    assert params.is_symlink() and seasons(toy) == ("2018", "2019", "2020")
