"""What validation.json needs to know of one tile, small and plain, so that a worker counts and anybody adds up."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from stcln.data.tile import NODATA, VOID, Radar, Tile

BINS = 400  # of NDVI from -1 to 1
GREEN = 0.6  # NDVI above which a pixel's spectrum is that of leaves
RED, NIR = "B04", "B08"
INT16 = np.iinfo(np.int16)
AT_ONCE = 1 << 16  # pixels of several dates that are looked at together: what a core's cache holds


@dataclass(frozen=True, kw_only=True)
class Count:
    """A tile in numbers. Every field is a JSON value: `asdict(count)` writes it, `Count(**read)` reads it.

    Attributes:
        id, split, crs: As in `Tile`.
        transform: As in `Tile`, six numbers.
        size: Height and width in pixels.
        labelled: Rows [from, to) and columns [from, to) of the smallest box around all labelled pixels; empty: none.
        days: The dates, ISO 8601.
        seen: Valid pixels of every date.
        low, high: Smallest and largest valid value of every band; empty if no pixel is valid.
        classes: Pixels by class index, as text.
        crops: Class indices in `ndvi`.
        ndvi: NDVI histogram of valid labelled pixels, packed; empty if there are none, or no B04 and B08.
        green: Pixels with an NDVI above `GREEN` on the date that has most of them.
        spectrum: Sum of every band over those pixels.
        images: Checksums of the first and of the second half of the images.
        radar: By orbit: `days`; `low` and `high` of every band; `known` of so many `pixels`, all dates together.
        findings: What was repaired in the tile, number of events by sentence.
    """

    id: str
    split: str
    crs: str
    transform: Sequence[float]
    size: Sequence[int]
    labelled: Sequence[int]
    days: Sequence[str]
    seen: Sequence[int]
    low: Sequence[int]
    high: Sequence[int]
    classes: Mapping[str, int]
    crops: Sequence[int]
    ndvi: str
    green: int
    spectrum: Sequence[int]
    images: Sequence[int]
    radar: Mapping[str, Mapping[str, Any]]
    findings: Mapping[str, int]

    @classmethod
    def of(cls, tile: Tile, bands: Sequence[str], findings: Mapping[str, int]) -> Self:
        """Count a tile.

        Args:
            tile: As it goes into the store.
            bands: The reader's; the first C are those of `tile.reflectance`.
            findings: What reading this tile repaired, number of events by sentence.
        """
        reflectance, valid, labels = tile.reflectance, tile.valid, tile.labels
        counts = np.bincount(labels.ravel(), minlength=VOID + 1)
        low, high = _range(reflectance, valid)
        crops, ndvi, green, spectrum = _greenness(tile, bands) if {RED, NIR} <= set(bands) else ([], "", 0, [])
        halves = np.array_split(reflectance, 2)
        return cls(
            id=tile.id, split=tile.split, crs=tile.crs, transform=[float(part) for part in tile.transform],
            size=list(labels.shape), labelled=_box(labels != VOID), days=[str(day) for day in tile.dates],
            seen=valid.sum(axis=(1, 2)).tolist(), low=low, high=high,
            classes={str(k): int(counts[k]) for k in np.flatnonzero(counts)},
            crops=crops, ndvi=ndvi, green=green, spectrum=spectrum,
            images=[google_crc32c.value(half.tobytes()) for half in halves],
            radar={orbit: _of_radar(radar) for orbit, radar in tile.radar.items()}, findings=dict(findings),
        )  # fmt: skip

    def histogram(self) -> tuple[NDArray[np.int64], ...]:
        """What `ndvi` holds, without zeros: place in `crops`, place in `days`, bin of NDVI, pixels; int64 [N] each."""
        if not self.ndvi:
            return (np.empty(0, np.int64),) * 4
        gaps, counts = np.frombuffer(blosc.decompress(b64decode(self.ndvi)), np.uint32).reshape(2, -1).astype(np.int64)
        rest, level = np.divmod(gaps.cumsum(), BINS)
        return *np.divmod(rest, len(self.days)), level, counts


def _packed(counts: NDArray[np.int64]) -> str:
    """A histogram without its zeros: gaps between the bins that count, and their counts."""
    if not (used := np.flatnonzero(counts)).size:
        return ""
    both = np.stack([np.diff(used, prepend=0), counts[used]]).astype(np.uint32)
    return b64encode(blosc.compress(both, b"zstd", 1, blosc.SHUFFLE)).decode()


def _range(values: NDArray[np.int16], kept: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Smallest and largest kept value of every band; values [T,C,H,W], kept [T,H,W]."""
    if not kept.any():
        return [], []
    T, C, _, _ = values.shape
    low = high = values.reshape(T, C, -1)
    if not kept.all():
        one = kept.reshape(T, 1, -1)
        low, high = np.where(one, low, INT16.max), np.where(one, high, INT16.min)
    return low.min(axis=2).min(axis=0).tolist(), high.max(axis=2).max(axis=0).tolist()


def _box(inside: NDArray[np.bool_]) -> list[int]:
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return [int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1] if len(rows) else []


def _greenness(tile: Tile, bands: Sequence[str]) -> tuple[list[int], str, int, list[int]]:
    """NDVI by crop and date, and the spectrum of the tile's leaves at their greenest; some dates at a time."""
    labelled, T = tile.labels != VOID, len(tile.dates)
    crops, place = np.unique(tile.labels[labelled]).tolist(), np.zeros(VOID + 1, np.int32)
    place[crops] = np.arange(len(crops), dtype=np.int32) * T * BINS
    counts = np.zeros(len(crops) * T * BINS, np.int64)
    best, leaves = 0, np.zeros(labelled.shape, bool)
    step = max(1, AT_ONCE // labelled.size)
    for dates in (slice(start, start + step) for start in range(0, T, step)):
        valid, ndvi = tile.valid[dates], _ndvi(tile.reflectance[dates], bands)
        keys = np.clip((ndvi + 1) * (BINS / 2), 0, BINS - 1).astype(np.int32)
        keys += place[tile.labels] + BINS * np.arange(T, dtype=np.int32)[dates, None, None]
        found = np.bincount(keys[valid & labelled])
        counts[: len(found)] += found
        green = (ndvi > GREEN) & valid
        most = int((many := green.sum(axis=(1, 2))).argmax())
        if many[most] > leaves.sum():
            best, leaves = dates.start + most, green[most]
    spectrum = tile.reflectance[best][:, leaves].sum(axis=1, dtype=np.int64).tolist()
    return crops, _packed(counts), int(leaves.sum()), spectrum


def _ndvi(reflectance: NDArray[np.int16], bands: Sequence[str]) -> NDArray[np.float32]:
    red, nir = (reflectance[:, bands.index(name)].astype(np.float32) for name in (RED, NIR))
    ndvi: NDArray[np.float32] = (nir - red) / np.maximum(nir + red, 1)
    return ndvi


def _of_radar(radar: Radar) -> dict[str, Any]:
    known = (radar.values != NODATA).all(axis=1)
    low, high = _range(radar.values, known)
    days = [str(day) for day in radar.dates]
    return {"days": days, "low": low, "high": high, "known": int(known.sum()), "pixels": known.size}
