"""One season's pixels, dates and labels, ready to read."""

from typing import Any

import dagster as dg

from assets import show
from assets.plan import OWNERS, Plan
from assets.stage import Ledger, Runner, materialise
from stcln.stages import name_of


def season_store(plan: Plan) -> dg.AssetsDefinition:
    """The asset of stage `prepare`, a partition a season."""

    @dg.asset(
        deps=["raw_archive"],
        partitions_def=plan.season,
        group_name="data",
        kinds={"python", "zarr", "xarray"},
        owners=OWNERS,
        code_version=plan.code_version("prepare"),
    )
    def season_store(
        context: dg.AssetExecutionContext, ledger: dg.ResourceParam[Ledger], runner: dg.ResourceParam[Runner]
    ) -> dg.MaterializeResult[Any]:
        """A Zarr store of int16 reflectance, real dates, validity, labels and splits, with its validation report.

        `xarray.open_zarr` opens it. Broken tiles are left out and named in the report.
        """
        season = context.partition_key
        stage = name_of("prepare", season=season)
        return materialise(context, stage, ledger, runner, lambda: show.store(plan.workspace, season))

    return season_store
