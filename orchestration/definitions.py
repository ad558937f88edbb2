"""The code location: puts assets, checks, resources, jobs, sensors and the schedule of one workspace together.

`build_defs` takes the parts it is given in place of its own, so that a test swaps one; `defs` is what Dagster loads.
"""

import logging
import warnings
from pathlib import Path

import dagster as dg

from assets import Plan, assets, checks
from orchestration.home import workspace_root
from orchestration.jobs import jobs
from orchestration.notify import failure_sensor
from orchestration.resources import Resources, resources, small_objects
from orchestration.schedules import running_season
from orchestration.sensors import ledger_sensor, new_season_sensor
from stcln.workspace import Workspace

logging.getLogger("dvc").setLevel(logging.WARNING)


def build_defs(root: Path, parts: Resources | None = None) -> dg.Definitions:
    """The definitions of a workspace.

    Args:
        root: The workspace; its params.yaml says which assets and partitions there are.
        parts: A ledger and a runner in place of this deployment's.

    Raises:
        BadInput: The study is missing or faulty.
    """
    plan, parts = Plan(Workspace(root)), parts or resources(root)
    study, season = jobs(plan, parts)
    return dg.Definitions(
        assets=assets(plan),
        asset_checks=checks(plan),
        resources={**parts, **small_objects()},
        jobs=[study, season],
        sensors=[
            ledger_sensor(plan),
            new_season_sensor(plan, season, parts["notifier"]),
            failure_sensor(plan.study.name, parts["notifier"]),
        ],
        schedules=[running_season(plan, season)],
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dg` and the webserver load: the workspace that STCLN_WORKSPACE names, else this checkout."""
    with warnings.catch_warnings():  # check partitions and mappings by dimension are new in this Dagster
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return build_defs(workspace_root())
