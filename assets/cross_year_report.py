"""The study's result."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan, family_name
from assets.stage import Ledger, Runner, materialise


def cross_year_report(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `report`."""
    every = dg.AllPartitionMapping()
    families = [family_name(f, arm) for f in ("evaluation", "finetuned") for arm in plan.study.cells.arm]
    families += ["ablation"] * bool(plan.variants)

    @dg.asset(
        deps=[dg.AssetDep(key, partition_mapping=every) for key in (*families, "season_store")]
        + ["pretrained_encoder"],
        group_name="results",
        kinds={"python", "matplotlib"},
        owners=OWNERS,
        code_version=plan.code_version("report"),
    )
    def cross_year_report(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """All cells compared across years: mean and spread over seeds, as HTML, Markdown, JSON and PNG."""
        return materialise(context, "report", ledger, runner, lambda: show.report(plan.workspace))

    return cross_year_report
