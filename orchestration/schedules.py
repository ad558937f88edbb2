"""What happens by the clock."""

import dagster as dg

from assets import Plan
from orchestration.seasons.due import running
from stcln.workspace import Workspace

MONDAYS = "0 5 * * 1"


def running_season(plan: Plan, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every Monday morning: fetch the season that is under way again, and train those of its cells that are due."""

    @dg.schedule(name="running_season", cron_schedule=MONDAYS, job=job, execution_timezone="UTC")
    def running_season(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        today = context.scheduled_execution_time.date()
        config = {"ops": {"run_season": {"config": {"fetch_again": True}}}}
        requests = [
            dg.RunRequest(run_key=f"{season}-{today}", partition_key=season, run_config=config)
            for season in running(Workspace(plan.workspace.root).study, today)
        ]
        return requests or dg.SkipReason(f"no season of the study is under way on {today}")

    return running_season
