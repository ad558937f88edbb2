"""What was made outside Dagster, reported to it as one of its own runs would have: versions, provenance, metadata."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions import data_version as tags
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from assets import Plan
from assets.plan import Step
from assets.show import SHOW
from assets.stage import Ledger, Metadata
from orchestration.resources import resources
from stcln.stages import STAGES


def report(
    plan: Plan, lock: Mapping[str, Any], graph: BaseAssetGraph[Any], instance: dg.DagsterInstance, budget: float
) -> bool:
    """Report what dvc.lock holds in another version than Dagster last saw.

    Event by event, upstream first, since each one names the events it was made from.

    Args:
        plan: The study.
        lock: What dvc.lock says.
        graph: The assets that Dagster has loaded.
        instance: Told of each.
        budget: Seconds after which the rest is left for another time.

    Returns:
        Whether all was told.
    """
    began, stages = time.monotonic(), lock.get("stages", {})
    unseen = [
        (step, version)
        for step in plan.steps()
        if step.stage in stages and graph.has(step.asset)
        if (version := stages[step.stage]["outs"][0]["md5"]) != recorded(step, instance)
    ]
    ledger = resources(plan.workspace.root)["ledger"]
    standing = ledger.standing([step.stage for step, _ in unseen]) if unseen else set()
    for step, version in unseen:
        if time.monotonic() - began > budget:
            return False
        shown = _shown(step, plan, ledger) if step.stage in standing else None
        instance.report_runless_asset_event(_event(step, version, shown, plan, graph, instance))
    return True


def _shown(step: Step, plan: Plan, ledger: Ledger) -> Metadata:
    elsewhere = ledger.bring(step.stage)
    return {**SHOW[STAGES[step.stage.partition("@")[0]].verb](plan.workspace, **step.keys), **elsewhere}


def _event(
    step: Step, version: str, shown: Metadata | None, plan: Plan, graph: BaseAssetGraph[Any],
    instance: dg.DagsterInstance,
) -> dg.AssetMaterialization:  # fmt: skip
    """A step's materialisation; only of what stands, and so is shown, can be said what made it."""
    name = step.stage.partition("@")[0]
    made = {tags.DATA_VERSION_TAG: version, tags.DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    if shown is not None:
        made[tags.CODE_VERSION_TAG] = plan.code_version(name, step.keys.get("arm", ""))
        for parent in graph.get(step.asset).parent_keys:
            if record := instance.get_latest_data_version_record(parent):
                read = tags.extract_data_version_from_entry(record.event_log_entry)
                made[tags.get_input_data_version_tag(parent)] = read.value if read else ""
                made[tags.get_input_event_pointer_tag(parent)] = str(record.storage_id)
    metadata = {**(shown or {}), "stage": step.stage, "reported_from": "dvc.lock"}
    return dg.AssetMaterialization(asset_key=step.asset, partition=step.partition, tags=made, metadata=metadata)


def recorded(step: Step, instance: dg.DagsterInstance) -> str | None:
    """The data version that Dagster last saw of a step's output."""
    record = instance.get_latest_data_version_record(step.asset, partition_key=step.partition)
    version = tags.extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else None
