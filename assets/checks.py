"""The checks that gate the assets. A blocking check that fails keeps all that lies downstream from being made.

What blocks, and what only warns:

- a season store: see `season_checks`;
- a loss that is not finite: always blocks;
- a model no better than the best constant answer, on its own season: blocks for arms that start from the encoder and
  see all labels, which are the ones that may be served. For arms from random weights or with few labels it warns: they
  are there to be compared with, and that one fails is a finding of the study, not a fault of the run. On other seasons
  it warns too: that transfer across years can fail is what the study measures.

Whether a model becomes champion is no check of an asset but a decision: see `assets.champion`.
"""

import math
from collections.abc import Sequence

import dagster as dg

from assets import show
from assets.plan import Plan, cell_of, family_name
from assets.season_checks import season_checks
from stcln.storage import read_json

Result = dg.AssetCheckResult


def checks(plan: Plan) -> Sequence[dg.AssetChecksDefinition]:
    """All checks of a study."""
    arms = plan.study.cells.arm
    return [
        *season_checks(plan),
        _losses_are_finite(plan, "pretrained_encoder"),
        *(_losses_are_finite(plan, family_name("finetuned", arm), arm) for arm in arms),
        *(_better_than_majority(plan, arm) for arm in arms),
    ]


def _losses_are_finite(plan: Plan, asset: str, arm: str = "") -> dg.AssetChecksDefinition:
    partitions = plan.cell if arm else None

    @dg.asset_check(asset=asset, name="losses_are_finite", blocking=True, partitions_def=partitions)
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """Every loss of every epoch is a finite number."""
        home = plan.workspace.finetuned(**cell_of(context), arm=arm) if arm else plan.workspace.pretrained
        paths = sorted(home.rglob("history.json"))
        losses = [float(epoch["loss"]) for path in paths for epoch in read_json(path)["epochs"]]
        bad = sum(not math.isfinite(loss) for loss in losses)
        return Result(
            passed=bool(losses) and not bad, metadata={"losses": float(len(losses)), "not_finite": float(bad)}
        )

    return check


def _better_than_majority(plan: Plan, arm: str) -> dg.AssetChecksDefinition:
    may_be_served = arm in plan.study.cells.pretrained and plan.study.arms[arm].labels == 1.0

    @dg.asset_check(
        asset=family_name("evaluation", arm), name="better_than_majority", blocking=True, partitions_def=plan.cell
    )
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """Mean accuracy over seeds is above that of the best constant answer, on every season."""
        cell = cell_of(context)
        found = read_json(plan.workspace.cell(**cell, arm=arm) / "scores.json")
        scores = {season: show.pooled(found, [season]) for season in show.tested(found)}
        margins = {season: score["oa"] - score["majority_oa"] for season, score in scores.items()}
        below = [season for season, margin in margins.items() if margin <= 0]
        blocks = may_be_served and cell["season"] in below
        said = f"no better than the best constant answer on {', '.join(below)}" if below else "better on every season"
        return Result(
            passed=not below,
            severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
            description=said,
            metadata={f"margin_{season}": margin for season, margin in margins.items()},
        )

    return check
