"""NDVI over the year, by crop, or of all pixels where a season has no label yet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stcln.data.store import SeasonStore
from stcln.drift.mix import shares
from stcln.drift.tiles import some
from stcln.study import Study

ALL = "all pixels"
RED, NIR = "B04", "B08"
Curves = Mapping[str, Mapping[str, float]]
"""NDVI by class and month, `01` to `12`."""


def curves(
    mine: SeasonStore, theirs: Sequence[SeasonStore], reports: Mapping[str, Mapping[str, Any]], study: Study
) -> dict[str, Any] | None:
    """Mean distance between a season's NDVI and the mean of other seasons', over the months that both have.

    Args:
        mine: The season.
        theirs: The others.
        reports: validation.json by season.
        study: Says which classes are ignored.

    Returns:
        distance, in NDVI, every crop by its share of the season's labels; over how many classes and months; the class
        and month that add most to it, and their difference. None where the bands or a month in common are missing.
    """
    usual = [reports[store.season]["ndvi"] for store in theirs]
    if found := _apart(reports[mine.season]["ndvi"], usual, shares(reports[mine.season], study)):
        return found
    if not {RED, NIR} <= set(mine.bands):
        return None
    return _apart({ALL: _of_all(mine, study)}, [{ALL: _of_all(store, study)} for store in theirs], {ALL: 1.0})


def _apart(mine: Curves, theirs: Sequence[Curves], weights: Mapping[str, float]) -> dict[str, Any] | None:
    apart: dict[tuple[str, str], float] = {}
    for name, month in [(crop, month) for crop in weights for month in mine.get(crop, {})]:
        if usual := [known[name][month] for known in theirs if month in known.get(name, {})]:
            apart[name, month] = mine[name][month] - float(np.mean(usual))
    if not apart:
        return None
    most = max(apart, key=lambda key: weights[key[0]] * abs(apart[key]))
    total = sum(weights[name] for name, _ in apart)
    return {
        "distance": round(sum(weights[name] * abs(by) for (name, _), by in apart.items()) / total, 4),
        "classes": len({name for name, _ in apart}), "months": len({month for _, month in apart}),
        "most": most[0], "month": most[1], "by": round(apart[most], 4),
    }  # fmt: skip


def _of_all(store: SeasonStore, study: Study) -> dict[str, float]:
    """By month of the season's own year: median over tiles and dates of the median over valid pixels."""
    months: dict[str, list[float]] = {}
    at = [store.bands.index(name) for name in (RED, NIR)]
    for tile in some(range(len(store)), store.season, study.seed):
        dates = store.dates(tile)
        kept = np.flatnonzero(dates.astype("datetime64[Y]").astype(str) == store.season)
        images, valid = store.read_images(tile, kept)
        for day, (red, near), seen in zip(dates[kept], images[:, at].astype(np.float32), valid, strict=True):
            if seen.any():
                ndvi = (near[seen] - red[seen]) / np.maximum(near[seen] + red[seen], 1)
                months.setdefault(str(day)[5:7], []).append(float(np.median(ndvi)))
    return {month: float(np.median(values)) for month, values in months.items()}
