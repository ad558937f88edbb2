"""Variants of the study, one change at a time."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan
from assets.stage import Ledger, Runner, materialise
from stcln.stages import name_of


def ablation(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `ablate`, a partition a variant; for a study that has an ablation."""

    @dg.asset(
        deps=[dg.AssetDep("season_store", partition_mapping=dg.AllPartitionMapping())],
        partitions_def=dg.StaticPartitionsDefinition(list(plan.variants)),
        group_name="scores",
        kinds={"python", "pytorch", "torchmetrics"},
        owners=OWNERS,
        code_version=plan.code_version("ablate"),
        pool="gpu",
    )
    def ablation(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """Scores of a variant of the study over several seeds, pre-training included, on its own and other seasons."""
        stage, variant = name_of("ablate", variant=context.partition_key), context.partition_key
        return materialise(context, stage, ledger, runner, lambda: show.variant(plan.workspace, variant))

    return ablation
