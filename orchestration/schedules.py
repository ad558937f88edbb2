"""What happens by the clock."""

import dagster as dg

from assets import Plan
from orchestration import seasons
from stcln.workspace import Workspace


def running_season(plan: Plan, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every Monday morning: fetch the season that is under way again, and train its cells if it has grown."""

    @dg.schedule(name="running_season", cron_schedule="0 5 * * 1", job=job, execution_timezone="UTC")
    def running_season(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.date()
        season = seasons.running(Workspace(plan.workspace.root).study, today)
        if season is None:
            return dg.SkipReason(f"no season of the study is under way on {today}")
        config = {"ops": {"run_season": {"config": {"fetch_again": True}}}}
        return dg.RunRequest(run_key=f"{season}-{today}", partition_key=season, run_config=config)

    return running_season
