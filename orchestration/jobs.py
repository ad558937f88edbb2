"""Two jobs: the whole study, and one season.

An asset job cannot span assets of different partitions, so each job is one op that materialises its steps in order,
every step in a run of its own; the runs stand beside the job's in the UI, tagged with the stage. Single partitions
and backfills need no job: they are materialised from the asset's page.
"""

import dagster as dg

from assets import Plan
from assets.champion import USER
from assets.plan import SEASONS
from orchestration.champion import settled
from orchestration.resources import Resources
from orchestration.study import cell_steps, materialise, season_steps
from stcln.storage import read_json
from stcln.workspace import Workspace

TURN = {"stcln/turn": "job"}
"""By this tag the instance lets one of the jobs begin at a time: the others wait in the queue, and take no place in it
from a decision or a single asset."""


class SeasonConfig(dg.Config):
    """How to run a season."""

    fetch_again: bool = False
    """Fetch although an archive stands: the source of a running season grows."""


def jobs(plan: Plan, resources: Resources) -> list[dg.JobDefinition]:
    """The jobs `study` and `season`."""
    root = plan.workspace.root

    @dg.op
    def run_study(context: dg.OpExecutionContext) -> int:
        """Materialise what of the study is due and does not stand, let the challenger ask to be served; runs made."""
        now = Plan(Workspace(root))
        runs = materialise(now, now.steps(), context.instance, resources, context.log.info)
        who = context.run.tags.get(USER) or f"job {context.job_name}, started by nobody named"
        context.log.info(f"champion: {settled(now, context.instance, resources, who)}")
        return runs

    @dg.op
    def run_season(context: dg.OpExecutionContext, config: SeasonConfig) -> int:
        """Materialise the season's store, drift, cells that are due and the report; gives the number of runs."""
        now, season = Plan(Workspace(root)), context.partition_key  # a sensor may just have registered it
        shared, say = season_steps(now, season), context.log.info
        runs = materialise(now, shared, context.instance, resources, say, config.fetch_again)
        if (found := now.workspace.drift(season) / "drift.json").exists():
            context.log.warning(read_json(found)["reason"])
        return runs + materialise(now, cell_steps(now, season), context.instance, resources, say)

    @dg.job(
        tags=TURN,
        description="The whole study: all that is due and does not stand, upstream first; then a decision about the "
        "champion.",
    )
    def study() -> None:
        run_study()

    @dg.job(
        tags=TURN,
        description="One season: its store and gates, how far it lies from the others, its cells whose day has come, "
        "the report. Scores of other seasons' models on it follow with `study`.",
        partitions_def=dg.DynamicPartitionsDefinition(name=SEASONS),
    )
    def season() -> None:
        run_season()

    return [study, season]
