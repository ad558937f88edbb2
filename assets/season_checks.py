"""The checks of a season store, partition by partition.

What blocks: a store that does not open or lacks more tiles than the study allows, and a test pixel in training; every
later number would be wrong. What warns is for a person to judge, since real ground can look odd: what the numbers say
of band order and scale, test tiles side by side with training ones, and tiles that are there twice. All of these read
validation.json, which `prepare` wrote with the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from assets.plan import Plan
from stcln.data.splits import check_disjoint
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.storage import read_json

NAMED = 10  # tiles in a description
LOOKS = {
    "bands_look_right": (
        "The numbers are those of crops in the bands they are named by. Leaves (pixels with an NDVI above 0.6) are "
        "darker in red than in green and near infrared, and rise over the red edge; in the growing season some crop is "
        "green, and grass is; summer crops are greener than ripe winter crops; no class has an impossible NDVI. A "
        "failure means bands in another order, dates of another year or labels of other tiles, or unusual ground."
    ),
    "values_in_range": (
        "Reflectance is x 10,000 without the offset of 1,000 that Sentinel-2 carries since 2022: no band is constant, "
        "far below 0 or cut off at the top, some pixels are dark, and leaves are bright in near infrared."
    ),
    "test_apart_from_training": (
        "No labelled pixel of a test tile touches one of a training tile. Where they touch, one field can lie in both, "
        "and the scores are partly recognition of it: set `dataset.buffer` (cubes), or choose other splits."
    ),
    "no_tile_twice": (
        "No two tiles hold the same images or lie on the same ground under two names: they would count twice in "
        "training and in the scores."
    ),
}
"""What the warning checks hold, by name."""

Result = dg.AssetCheckResult
Judged = tuple[list[str], dict[str, Any]]
"""What is wrong, and the numbers to show."""


def season_checks(plan: Plan) -> Sequence[dg.AssetChecksDefinition]:
    """All checks of `season_store` and `season_drift`."""
    return [
        _store_is_valid(plan),
        _no_test_pixel_in_training(plan),
        _season_looks_right(plan),
        _like_those_trained_on(plan),
    ]


def _store_is_valid(plan: Plan) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="season_store", name="store_is_valid", blocking=True, partitions_def=plan.season)
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """The store opens and holds tiles, each with dates, ascending and once each.

        No more tiles are rejected or absent than `dataset.max_rejected` and `dataset.max_absent` allow.
        """
        try:
            store = SeasonStore.open(plan.workspace.season(context.partition_key))
            found = read_json(store.path / "validation.json")
            faults = [store.ids[tile] for tile in range(len(store)) if not _dates_are_sound(store.dates(tile))]
        except BadInput as error:
            return Result(passed=False, description=str(error))
        means = {name: float(value) for name, value in zip(store.bands, store.mean, strict=True) if np.isfinite(value)}
        rejected = found["rejected_tiles"] / max(found["rejected_tiles"] + len(store), 1)
        absent = found["absent_ids"] / max(found["listed_ids"], 1)
        allowed = plan.study.dataset
        return Result(
            passed=not faults and len(store) > 0 and rejected <= allowed.max_rejected and absent <= allowed.max_absent,
            description=f"dates missing, unsorted or repeated in {faults[:NAMED]}" if faults else f"{len(store)} tiles",
            metadata={
                "tiles": float(len(store)), "rejected_share": rejected, "absent_share": absent,
                "mean_reflectance": means,
            },
        )  # fmt: skip

    return check


def _dates_are_sound(dates: NDArray[np.datetime64]) -> bool:
    steps = np.diff(dates)
    return len(dates) > 0 and not np.isnat(dates).any() and bool((steps > np.timedelta64(0)).all())


def _no_test_pixel_in_training(plan: Plan) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="season_store", name="no_test_pixel_in_training", blocking=True, partitions_def=plan.season)
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """No test tile lies, by id or by ground, in a tile that trains, over all seasons made so far."""
        made = [path for season in plan.study.cells.season if (path := plan.workspace.season(season)).is_dir()]
        try:
            check_disjoint(plan.study, [SeasonStore.open(path) for path in made])
        except BadInput as error:
            return Result(passed=False, description=str(error))
        return Result(passed=True, metadata={"seasons": ", ".join(path.stem for path in made)})

    return check


def _season_looks_right(plan: Plan) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(name, asset="season_store", description=why, partitions_def=plan.season)
        for name, why in LOOKS.items()
    ]

    @dg.multi_asset_check(name="season_looks_right", specs=specs)
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[Result]:
        try:
            found = read_json(plan.workspace.season(context.partition_key) / "validation.json")
        except BadInput as error:
            judged: dict[str, Judged] = dict.fromkeys(LOOKS, ([str(error)], {}))
        else:
            judged = _judged(found)
        for name, (faults, shown) in judged.items():
            yield Result(
                check_name=name, passed=not faults, severity=dg.AssetCheckSeverity.WARN, metadata=shown,
                description="; ".join(faults[:NAMED]),
            )  # fmt: skip

    return check


def _like_those_trained_on(plan: Plan) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="season_drift", name="like_those_trained_on", partitions_def=plan.season)
    def check(context: dg.AssetCheckExecutionContext) -> Result:
        """The season is so like those that pre-train that their models may map it as they are.

        A failure blocks nothing: it says to fine-tune, which the season's cells do, or to pre-train again with the
        season among `pretrain.seasons`, which a person decides.
        """
        found = read_json(plan.workspace.drift(context.partition_key) / "drift.json")
        return Result(
            passed=found["decision"] == "reuse", severity=dg.AssetCheckSeverity.WARN, description=found["reason"]
        )

    return check


def _judged(found: Mapping[str, Any]) -> dict[str, Judged]:
    """By check: what is wrong, and the numbers to show."""
    duplicates = found["duplicates"]
    twice = [f"{what.replace('_', ' ')}: {', '.join(ids)}" for what, groups in duplicates.items() for ids in groups]
    touching, near = [], found["distance"].get("train")
    if near and near["adjacent"]:
        touching = [f"{near['adjacent']} test tiles touch a training tile; the first: {' and '.join(near['tiles'])}"]
    return {
        "bands_look_right": (found["marks"]["bands"], {"ndvi": _json(found["ndvi"]), "leaves": _json(found["leaves"])}),
        "values_in_range": (found["marks"]["values"], {"reflectance_range": _json(found["reflectance_range"])}),
        "test_apart_from_training": (touching, {"distance": _json(found["distance"])}),
        "no_tile_twice": (twice, {"duplicates": _json(duplicates)}),
    }


def _json(value: Any) -> dg.JsonMetadataValue:
    return dg.MetadataValue.json(value)
