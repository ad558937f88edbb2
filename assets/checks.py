"""The checks that gate the assets. A blocking check that fails keeps all that lies downstream from being made.

What blocks, and what only warns:

- a season store: see `season_checks`;
- a loss that is not finite: always blocks;
- a model no better than the best constant answer, on its own season: blocks for arms that start from the
  encoder and
  see all labels, which are the ones that may be served. For arms from random weights or with few labels it warns:
  they are there to be
  compared with, and that one fails is a finding of the study, not a fault of the run. On other seasons it warns too:
  that transfer across years can fail is what the study measures;
- a champion that is worse than the one before by more than `TOLERANCE`: blocks if both were tested on the same
  seasons of the same study, else it warns, since the numbers do not compare.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from assets import show
from assets.plan import Plan, cell_of, family_name
from assets.season_checks import season_checks
from stcln.storage import read_json

TOLERANCE = 0.05
"""mIoU that a new champion may lose: about the spread between seeds of a small study."""
HISTORY = 50
"""Materialisations looked through for the champion before."""

Result = dg.AssetCheckResult


def checks(plan: Plan) -> Sequence[dg.AssetChecksDefinition]:
    """All checks of a study."""
    arms = plan.study.cells.arm
    return [
        *season_checks(plan),
        _losses_are_finite(plan, "pretrained_encoder"),
        *(_losses_are_finite(plan, family_name("finetuned", arm), arm) for arm in arms),
        *(_better_than_majority(plan, arm) for arm in arms),
        _not_worse_than_before(plan),
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
        return Result(
            passed=not below,
            severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
            description=f"no better than the best constant answer on {below}" if below else "better on every season",
            metadata={f"margin_{season}": margin for season, margin in margins.items()},
        )

    return check


def _not_worse_than_before(plan: Plan) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="champion_onnx", name="not_worse_than_before", blocking=True)
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """The champion's mIoU is at most the tolerance below that of the champion before.

        That is the last materialisation with another data version, not itself refused by this check. To accept a
        worse champion, wipe the asset's materialisations; to go back to the one before, check out its dvc.lock and
        run `dvc checkout models/champion`.
        """
        now = show.champion(plan.workspace)
        before = _champion_before(context.instance)
        if before is None:
            return Result(passed=True, description="the first champion", metadata={"miou": now["miou"]})
        comparable = all(before.get(field) == now[field] for field in ("study", "seasons"))
        return Result(
            passed=now["miou"] >= before["miou"] - TOLERANCE,
            severity=dg.AssetCheckSeverity.ERROR if comparable else dg.AssetCheckSeverity.WARN,
            description=f"mIoU {now['miou']:.3f}, before {before['miou']:.3f}"
            + ("" if comparable else ", of another study or other seasons"),
            metadata={"miou": now["miou"], "before": before["miou"], "tolerance": TOLERANCE},
        )

    return check


def _champion_before(instance: dg.DagsterInstance) -> Mapping[str, Any] | None:
    """Metadata of the last accepted champion of another version than the one that stands."""
    records = instance.fetch_materializations(dg.AssetKey("champion_onnx"), limit=HISTORY).records
    found = [(record.run_id, made) for record in records if (made := record.asset_materialization)]
    version = (found[0][1].tags or {}).get(DATA_VERSION_TAG) if found else None
    for run_id, made in found:
        run = instance.get_run_by_id(run_id) if run_id else None
        refused = run is not None and not run.is_success
        if (made.tags or {}).get(DATA_VERSION_TAG) != version and not refused and "miou" in made.metadata:
            return {name: value.value for name, value in made.metadata.items()}
    return None
