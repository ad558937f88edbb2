"""Two jobs: the whole study, and one season.

An asset job cannot span assets of different partitions, so each job is one op that materialises its steps in order,
every step in a run of its own; the runs stand beside the job's in the UI, tagged with the stage. Single partitions
and backfills need no job: they are materialised from the asset's page.
"""

import dagster as dg

from assets import Plan
from assets.plan import SEASONS
from orchestration.champion import settled
from orchestration.resources import Resources
from orchestration.study import materialise, season_steps


class SeasonConfig(dg.Config):
    """How to run a season."""

    fetch_again: bool = False
    """Fetch although an archive stands: the source of a running season grows."""


def jobs(plan: Plan, resources: Resources) -> list[dg.JobDefinition]:
    """The jobs `study` and `season`."""

    @dg.op
    def run_study(context: dg.OpExecutionContext) -> int:
        """Materialise whatever of the study does not stand, let the challenger ask to be served; the number of runs."""
        runs = materialise(plan, plan.steps(), context.instance, resources, context.log.info)
        context.log.info(f"champion: {settled(plan, context.instance, resources)}")
        return runs

    @dg.op
    def run_season(context: dg.OpExecutionContext, config: SeasonConfig) -> int:
        """Materialise the season's cells and all they need; gives the number of runs."""
        steps = season_steps(plan, context.partition_key)
        return materialise(plan, steps, context.instance, resources, context.log.info, config.fetch_again)

    @dg.job(description="The whole study: all that does not stand, upstream first; then a decision about the champion.")
    def study() -> None:
        run_study()

    @dg.job(
        description="One season's cells and all they need. Other seasons' scores and the report follow with `study`.",
        partitions_def=dg.DynamicPartitionsDefinition(name=SEASONS),
    )
    def season() -> None:
        run_season()

    return [study, season]
