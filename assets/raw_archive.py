"""The archive as its source has it."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan
from assets.stage import Ledger, Runner, materialise


class FetchConfig(dg.Config):
    """How to fetch."""

    again: bool = False
    """Fetch although an archive stands: the source may have grown, as that of a running season does."""


def raw_archive(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `fetch`."""

    @dg.asset(
        group_name="data",
        kinds={"python", "fsspec"},
        owners=OWNERS,
        code_version=plan.code_version("fetch"),
    )
    def raw_archive(
        context: dg.AssetExecutionContext,
        config: FetchConfig,
        ledger: dg.ResourceParam[Ledger],
        runner: dg.ResourceParam[Runner],
    ) -> dg.MaterializeResult[Any]:
        """The archive, downloaded, linked or simulated as `dataset.source` says, and verified by checksum.

        A simulated archive is named so wherever its numbers stand.
        """
        return materialise(context, "fetch", ledger, runner, lambda: show.archive(plan.workspace), config.again)

    return raw_archive
