"""Sensors and the schedule, ticked with real instances."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from toy_workspace import Toy

from orchestration import seasons
from orchestration.definitions import build_defs
from stcln.errors import BadInput
from stcln.study import load_study
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration


def tick(defs: dg.Definitions, name: str, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=defs.get_repository_def())
    result = defs.resolve_sensor_def(name)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result  # type: ignore[return-value]


def report(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    """What the daemon does with a tick's result."""
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))


def told(instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    """All materialisations that no run of Dagster has made."""
    events = [
        record.event_log_entry
        for key in instance.all_asset_keys()
        for record in instance.fetch_materializations(key, limit=100).records
    ]
    return [event.asset_materialization for event in events if not event.run_id and event.asset_materialization]


def stale(toy: Toy, instance: dg.DagsterInstance) -> set[str]:
    """The steps that the UI shows as stale, or not made at all."""
    graph = build_defs(toy.root, toy.resources).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    fresh = StaleStatus.FRESH
    return {str(step) for step in toy.plan.steps() if resolver.get_status(step.asset, step.partition) is not fresh}


def test_what_dvc_repro_made_is_reported_once_with_its_data_version(by_dvc: Toy, instance: dg.DagsterInstance) -> None:
    defs = build_defs(by_dvc.root, by_dvc.resources)
    first = tick(defs, "ledger", instance)
    report(instance, first)
    assert len(told(instance)) == len(by_dvc.plan.steps())
    assert sorted(instance.get_dynamic_partitions("season")) == ["2018", "2019"]
    record = instance.get_latest_data_version_record(dg.AssetKey("season_store"), partition_key="2019")
    assert record and record.asset_materialization.tags["dagster/data_version"] in by_dvc.lock
    assert isinstance(tick(defs, "ledger", instance, first.cursor), dg.SkipReason)
    tick(defs, "ledger", instance, "an older lock")
    assert len(told(instance)) == len(by_dvc.plan.steps())


def test_what_dvc_repro_made_shows_what_a_run_of_dagster_would_and_is_fresh_until_an_edit(
    by_dvc: Toy, instance: dg.DagsterInstance, done: tuple[Toy, dg.DagsterInstance]
) -> None:
    report(instance, tick(build_defs(by_dvc.root, by_dvc.resources), "ledger", instance))
    for key in (dg.AssetKey("evaluation_scratch"), dg.AssetKey("pretrained_encoder"), dg.AssetKey("challenger_onnx")):
        ours, theirs = (i.get_latest_materialization_event(key) for i in (instance, done[1]))
        assert ours and ours.asset_materialization and theirs and theirs.asset_materialization
        missing = set(theirs.asset_materialization.metadata) - set(ours.asset_materialization.metadata)
        assert missing == {"toy", "computed", "seconds"}
    assert stale(by_dvc, instance) == set()
    by_dvc.edit("scratch: {labels: 0.05}", "scratch: {labels: 0.06}")
    cells = {f"finetuned_scratch [full|{season}]" for season in ("2018", "2019")}
    assert stale(by_dvc, instance) == {*cells, "cross_year_report", "challenger_onnx"}


def test_of_what_is_in_the_lock_and_not_in_the_workspace_only_the_version_is_reported(
    by_dvc: Toy, instance: dg.DagsterInstance
) -> None:
    shutil.rmtree(by_dvc.root / "models/challenger")
    tick(build_defs(by_dvc.root, by_dvc.resources), "ledger", instance)
    made = instance.get_latest_materialization_event(dg.AssetKey("challenger_onnx"))
    assert made and made.asset_materialization
    assert set(made.asset_materialization.metadata) == {"stage", "reported_from"}


def test_what_dagster_made_is_not_reported_again(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    tick(build_defs(toy.root, toy.resources), "ledger", instance)
    assert told(instance) == []


def test_only_what_repro_made_anew_is_reported(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    toy.edit("scratch: {labels: 0.05}", "scratch: {labels: 0.05, learning_rate: 0.7}")
    toy.dvc("repro", "-q")
    tick(build_defs(toy.root, toy.resources), "ledger", instance)
    assert {event.asset_key.to_user_string() for event in told(instance)} == {
        "finetuned_scratch", "evaluation_scratch", "cross_year_report", "challenger_onnx",
    }  # fmt: skip


def test_a_new_season_becomes_partition_parameter_and_run_in_one_tick(toy: Toy, instance: dg.DagsterInstance) -> None:
    source = toy.root / "source/data_IJGI18/datasets/full/240"
    for folder in ("data18", "data19", "data20"):
        (source / folder).mkdir(parents=True)
    toy.edit("source: simulated", "source: source")
    before = (toy.root / "params.yaml").read_text()
    defs = build_defs(toy.root, toy.resources)
    result = tick(defs, "new_season", instance)
    report(instance, result)
    assert instance.get_dynamic_partitions("season") == ["2020"]
    assert [request.partition_key for request in result.run_requests] == ["2020"]
    after = (toy.root / "params.yaml").read_text()
    assert after == before.replace("season: [2018, 2019]\n", "season: [2018, 2019, 2020]\n")
    assert isinstance(tick(defs, "new_season", instance), dg.SkipReason)


def test_a_simulated_source_holds_no_new_season(toy: Toy, instance: dg.DagsterInstance) -> None:
    assert isinstance(tick(build_defs(toy.root, toy.resources), "new_season", instance), dg.SkipReason)


def test_params_stay_as_they_were_if_the_study_would_be_invalid(toy: Toy) -> None:
    path = toy.root / "params.yaml"
    before = path.read_bytes()
    with pytest.raises(BadInput):
        seasons.register(path, ["2019"])
    assert path.read_bytes() == before
    assert not list(toy.root.glob(".params*"))


def test_seasons_are_read_from_each_layout(toy: Toy, shared: Path) -> None:
    studies = Path(__file__).parents[2] / "studies"
    for name, source in (("flanders", "cubes"), ("mtlcc", "mtlcc"), ("pastis", "pastis/PASTIS")):
        dataset = load_study(studies / f"{name}.yaml").dataset
        here = {
            "source": str(shared / "real" / source),
            "root": "data_IJGI18/datasets/full/240" if name == "mtlcc" else ".",
        }
        assert seasons.in_source(dataset.model_copy(update=here), toy.root) == ["2018", "2019"]


def test_the_running_season_is_fetched_again_and_a_past_one_is_not(toy: Toy, instance: dg.DagsterInstance) -> None:
    schedule = build_defs(toy.root, toy.resources).resolve_schedule_def("running_season")
    asked = []
    for day in (datetime(2019, 6, 3, tzinfo=UTC), datetime(2024, 6, 3, tzinfo=UTC)):
        with dg.build_schedule_context(instance=instance, scheduled_execution_time=day) as context:
            asked.append(schedule(context))
    request, skipped = asked
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2019"
    assert request.run_config["ops"]["run_season"]["config"]["fetch_again"]
    assert isinstance(skipped, dg.SkipReason)
    assert seasons.running(Workspace(toy.root).study, date(2018, 6, 3)) == "2018"


def test_the_season_job_makes_one_seasons_cells_and_no_other(toy: Toy, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("season", ["2018", "2019"])
    job = build_defs(toy.root, toy.resources).resolve_job_def("season")
    assert job.execute_in_process(instance=instance, partition_key="2019").success
    ran = toy.ran()
    assert "evaluate 2019 full scratch" in ran and "prepare 2018" in ran
    assert not [line for line in ran if line.startswith(("finetune 2018", "evaluate 2018", "report"))]
    shutil.rmtree(toy.root / "reports")
    assert job.execute_in_process(instance=instance, partition_key="2019").success
    assert toy.ran() == []
