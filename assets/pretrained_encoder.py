"""The encoder that has seen no label."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan
from assets.stage import Ledger, Runner, materialise


def pretrained_encoder(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `pretrain`."""
    seasons = dg.SpecificPartitionsPartitionMapping(list(plan.study.pretrain.seasons))

    @dg.asset(
        deps=[dg.AssetDep("season_store", partition_mapping=seasons)],
        group_name="models",
        kinds={"python", "pytorch"},
        owners=OWNERS,
        code_version=plan.code_version("pretrain"),
        pool="gpu",
    )
    def pretrained_encoder(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """An encoder pre-trained on unlabelled series: it fills in the pixels that were hidden from it."""
        return materialise(context, "pretrain", ledger, runner, lambda: show.encoder(plan.workspace))

    return pretrained_encoder
