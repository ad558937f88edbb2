"""The model that may be served."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan, family_name
from assets.stage import Ledger, Runner, materialise


def challenger_onnx(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `export`."""
    families = [family_name(f, arm) for f in ("evaluation", "finetuned") for arm in plan.study.cells.arm]

    @dg.asset(
        deps=[dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in (*families, "season_store")],
        group_name="results",
        kinds={"python", "pytorch", "onnx"},
        owners=OWNERS,
        code_version=plan.code_version("export"),
    )
    def challenger_onnx(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """The best cell's model as ONNX, normalisation inside, equal to torch; with model card, scores and lineage."""
        return materialise(context, "export", ledger, runner, lambda: show.challenger(plan.workspace))

    return challenger_onnx
