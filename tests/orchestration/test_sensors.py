"""The ledger's sensor, ticked with real instances."""

import shutil

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from toy_workspace import Toy
from watched import report, tick

from orchestration.definitions import build_defs

pytestmark = pytest.mark.orchestration


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
