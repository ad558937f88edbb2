"""A few test tiles as maps beside their truth, for the eye."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.series import Series

VISIBLE = (4, 3, 2)  # red, green, blue of Sentinel-2
STRETCH = (2, 98)  # percentiles of a tile's reflectance that become black and white


def tile_maps(series: Series, bands: Sequence[str], probabilities: NDArray[np.float32]) -> dict[str, NDArray[np.uint8]]:
    """Arrays to save of a tile.

    Args:
        series: The tile with its labels.
        bands: Names in the order of C.
        probabilities: float32 [K,H,W].

    Returns:
        uint8 `<season>/<tile id>/truth` and `.../prediction` [H,W] class indices, `.../confidence` [H,W] in percent,
        `.../rgb` [H,W,3]: B04, B03, B02 where there are such, the median of the valid dates, stretched.
    """
    maps = {
        "truth": series.labels,
        "prediction": probabilities.argmax(0).astype(np.uint8),
        "confidence": (100 * probabilities.max(0)).round().astype(np.uint8),
        "rgb": _picture(series, _visible(bands)),
    }
    return {f"{series.season}/{series.tile}/{name}": array for name, array in maps.items()}


def _visible(bands: Sequence[str]) -> list[int]:
    """Indices of red, green, blue; of the first three bands where one of them is missing."""
    names = [name.replace("B0", "B") for name in bands]
    wanted = [f"B{number}" for number in VISIBLE]
    return [names.index(name) for name in wanted] if set(wanted) <= set(names) else [0, min(1, len(names) - 1), -1]


def _picture(series: Series, bands: list[int]) -> NDArray[np.uint8]:
    """uint8 [H,W,3]; a pixel never seen takes the median of all dates."""
    values: NDArray[Any] = series.reflectance[:, bands].astype(np.float32)
    seen = series.valid | ~series.valid.any(0)
    median = np.nanmedian(np.where(seen[:, None], values, np.nan), axis=0)
    low, high = np.percentile(median, STRETCH, axis=(1, 2), keepdims=True)  # a band at a time: haze lifts the blue
    picture = np.clip(255 * (median - low) / np.maximum(high - low, 1.0), 0, 255).astype(np.uint8)
    return np.moveaxis(picture, 0, -1)
