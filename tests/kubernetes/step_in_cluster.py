"""A step in a run of its own, in a cluster, and what Dagster knows of it."""

from functools import cache
from typing import Any

import dagster as dg

from orchestration.deployment import Deployment
from orchestration.runners import runner
from stcln.workspace import Workspace

STAGE = "scratch@2016-d6-scratch"
ARGV = ["python", "-m", "stcln", "finetune", "--season", "2016", "--length", "d6", "--arm", "scratch"]


@cache
def _instance() -> dg.DagsterInstance:
    """One for all runs: making it takes longer than a run."""
    return dg.DagsterInstance.ephemeral()


class Ran:
    """Runs it."""

    def __init__(self, workspace: Workspace, deployment: Deployment, stage: str = STAGE, argv: list[str] = ARGV):
        @dg.asset
        def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            return dg.MaterializeResult(metadata={**runner(workspace.root, deployment).run(stage, argv, context)})

        result = dg.materialize([step], instance=_instance(), raise_on_error=False)
        self.logs = [entry.user_message for entry in _instance().all_logs(result.run_id)]
        self.success, self.events = result.success, result.all_events

    @property
    def sentence(self) -> str:
        """Why it failed, as the user reads it."""
        (failed,) = (event for event in self.events if event.is_step_failure)
        data = failed.step_failure_data
        return str(data.user_failure_data.description if data.user_failure_data else data.error)

    @property
    def tries(self) -> int:
        """How often it was begun."""
        return 1 + sum(event.is_step_up_for_retry for event in self.events)
