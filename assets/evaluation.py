"""A cell's scores, a family an arm."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan, cell_of, family_name
from assets.stage import Ledger, Runner, materialise
from stcln.stages import evaluate_stage, name_of


def evaluation(plan: Plan, arm: str) -> dg.AssetsDefinition:
    """The family of an arm: stage `evaluate`, or `evaluate-scratch`, on its model and every season's test tiles."""
    stage = evaluate_stage(plan.study, arm)

    @dg.asset(
        name=family_name("evaluation", arm),
        deps=[
            dg.AssetDep(family_name("finetuned", arm)),
            dg.AssetDep("season_store", partition_mapping=dg.AllPartitionMapping()),
        ],
        partitions_def=plan.cell,
        group_name="scores",
        kinds={"python", "pytorch", "torchmetrics"},
        owners=OWNERS,
        tags={"arm": arm},
        code_version=plan.code_version(stage, arm),
        pool="gpu",
        description=(
            f"Scores of the arm `{arm}` on the test tiles of its own season and of every other: overall accuracy, "
            "mean IoU, macro-F1, kappa, by class, by seed."
        ),
    )
    def family(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        cell = {**cell_of(context), "arm": arm}
        return materialise(context, name_of(stage, **cell), ledger, runner, lambda: show.scores(plan.workspace, **cell))

    return family
