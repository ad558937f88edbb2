"""What Dagster watches: the ledger, and the source."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import yaml
from dagster._core.definitions.data_version import DATA_VERSION_TAG, extract_data_version_from_entry

from assets import Plan
from assets.plan import SEASONS, Step
from orchestration import seasons
from stcln.errors import BadInput
from stcln.workspace import Workspace


def ledger_sensor(plan: Plan) -> dg.SensorDefinition:
    """Reports what `dvc repro` or `git checkout` have made current, so that each way sees the others."""
    root = plan.workspace.root

    @dg.sensor(
        name="ledger", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watches dvc.lock and reports what was made or restored outside Dagster, with DVC's data versions.",
    )  # fmt: skip
    def ledger(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        lock = root / "dvc.lock"
        text = lock.read_bytes() if lock.exists() else b""
        cursor = hashlib.md5(text).hexdigest()
        now = Plan(Workspace(root))
        known = set(context.instance.get_dynamic_partitions(SEASONS))
        new = [season for season in now.study.cells.season if season not in known]
        if cursor == context.cursor and not new:
            return dg.SkipReason("dvc.lock is as it was")
        stages = (yaml.safe_load(text) or {}).get("stages", {})
        return dg.SensorResult(
            asset_events=list(_unseen(now, stages, context.instance)),
            dynamic_partitions_requests=[now.season.build_add_request(new)] if new else [],
            cursor=cursor,
        )

    return ledger


def _unseen(plan: Plan, stages: dict[str, Any], instance: dg.DagsterInstance) -> Iterator[dg.AssetMaterialization]:
    """What dvc.lock holds in another version than Dagster last saw."""
    for step in plan.steps():
        version = stages[step.stage]["outs"][0]["md5"] if step.stage in stages else None
        if version and version != recorded(step, instance):
            yield dg.AssetMaterialization(
                asset_key=step.asset, partition=step.partition, tags={DATA_VERSION_TAG: version},
                metadata={"stage": step.stage, "reported_from": "dvc.lock"},
            )  # fmt: skip


def recorded(step: Step, instance: dg.DagsterInstance) -> str | None:
    """The data version that Dagster last saw of a step's output."""
    record = instance.get_latest_data_version_record(step.asset, partition_key=step.partition)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else None


def new_season_sensor(plan: Plan, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Takes over a season that has appeared in the source. Off until switched on, since it spends hours."""
    workspace = plan.workspace

    @dg.sensor(
        name="new_season", job=job, minimum_interval_seconds=300,
        description="Looks for seasons in the source that the study does not have; registers each as a partition "
        "and in params.yaml (a change to commit) and launches its cells.",
    )  # fmt: skip
    def new_season(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        study = Workspace(workspace.root).study
        found = [s for s in seasons.in_source(study.dataset, workspace.root) if s not in study.cells.season]
        if not found:
            return dg.SkipReason(f"no season in {study.dataset.source} beyond {', '.join(study.cells.season)}")
        try:
            seasons.register(workspace.root / "params.yaml", found)
        except BadInput as error:
            return dg.SkipReason(str(error))
        return dg.SensorResult(
            dynamic_partitions_requests=[plan.season.build_add_request(found)],
            run_requests=[dg.RunRequest(run_key=f"season-{season}", partition_key=season) for season in found],
        )

    return new_season
