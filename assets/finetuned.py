"""A model a cell, a family an arm."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan, cell_of, family_name
from assets.stage import Ledger, Runner, materialise
from stcln.stages import finetune_stage, name_of


def finetuned(plan: Plan, arm: str) -> dg.AssetsDefinition:
    """The family of an arm: stage `finetune`, or `scratch`, which does not wait for the encoder."""
    stage = finetune_stage(plan.study, arm)
    same_season = dg.MultiToSingleDimensionPartitionMapping("season")
    encoder = [dg.AssetDep("pretrained_encoder")] if stage == "finetune" else []

    @dg.asset(
        name=family_name("finetuned", arm),
        deps=[dg.AssetDep("season_store", partition_mapping=same_season), *encoder],
        partitions_def=plan.cell,
        group_name="models",
        kinds={"python", "pytorch"},
        owners=OWNERS,
        tags={"arm": arm},
        code_version=plan.code_version(stage, arm),
        pool="gpu",
        description=(
            f"Models of the arm `{arm}`, a partition a season and length: one a seed, the best on validation, trained "
            f"from {'the pre-trained encoder' if encoder else 'random weights'} "
            f"with {plan.study.arms[arm].labels:.0%} of the labels."
        ),
    )
    def family(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        cell = {**cell_of(context), "arm": arm}
        return materialise(context, name_of(stage, **cell), ledger, runner, lambda: show.models(plan.workspace, **cell))

    return family
