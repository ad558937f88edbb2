"""One asset in a Dagster run of its own, in this process: how it is started, and what is said of it."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import Plan, assets, checks
from orchestration.notify import STAGE_TAG
from orchestration.resources import Resources

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Refused(Exception):  # noqa: N818 - it is a verdict
    """A step failed or a blocking check did not pass; the message says which and why."""


def asset_job(plan: Plan, parts: Resources) -> dg.JobDefinition:
    """The job of which any asset partition is a part, checks included."""
    defs = dg.Definitions(assets(plan), asset_checks=checks(plan), resources={**parts})
    return defs.resolve_implicit_global_asset_job_def()


def execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    config: Mapping[str, Any],
    partition: str | None,
    stage: str,
) -> dg.ExecuteInProcessResult:
    """Run one asset or partition of `asset_job`, quietly, tagged with its stage; an error is in the result."""
    return job.execute_in_process(
        run_config={**QUIET, **config}, instance=instance, partition_key=partition, asset_selection=[asset],
        raise_on_error=False, tags={STAGE_TAG: stage},
    )  # fmt: skip


def verdicts(result: dg.ExecuteInProcessResult) -> list[str]:
    """A line for every check that did not pass."""
    return [
        f"check {found.check_name}: {found.severity.value}, {found.description}"
        for found in result.get_asset_check_evaluations()
        if not found.passed
    ]


def reason(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, in the sentence that was meant for a person if there is one."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            failed = data.user_failure_data
            text = failed.description if failed else data.error and (data.error.cause or data.error).message
            return str(text).strip()
    return "the run failed; the Dagster UI shows why"
