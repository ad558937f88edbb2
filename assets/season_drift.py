"""How far a season lies from those that were trained on."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan
from assets.stage import Ledger, Runner, materialise
from stcln.stages import name_of


def season_drift(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `drift`, a partition a season."""
    encoder = ["pretrained_encoder"] if plan.study.cells.pretrained else []

    @dg.asset(
        deps=[dg.AssetDep("season_store", partition_mapping=dg.AllPartitionMapping()), *encoder],
        partitions_def=plan.season,
        group_name="scores",
        kinds={"python", "pytorch"},
        owners=OWNERS,
        code_version=plan.code_version("drift"),
        pool="gpu",
    )
    def season_drift(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """Whether a season is mapped by reusing models, by fine-tuning, or asks for another pre-training; and why.

        It compares the encoder's error in filling in what is hidden, NDVI over the year and the crops' shares with the
        seasons that pre-train. Nothing is made from it: it is advice.
        """
        season = context.partition_key
        stage = name_of("drift", season=season)
        return materialise(context, stage, ledger, runner, lambda: show.drift(plan.workspace, season))

    return season_drift
