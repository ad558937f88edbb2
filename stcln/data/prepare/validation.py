"""validation.json: what a season store holds, what was left out and why, and whether the numbers look like crops."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers.reading import Reader
from stcln.data.store import SeasonStore
from stcln.data.tile import VOID, Tile

CLEAR = 0.7  # a date shows the scene if more than this share of its pixels is valid
BINS = 2000  # of NDVI between -1 and 1, so that a median needs no more memory for more tiles


class Tally:
    """Counts tiles as they pass by on their way into a store.

    Args:
        reader: Where they come from.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.rejected: dict[str, str] = {}
        self.splits: Counter[str] = Counter()
        self.days: set[str] = set()
        self.images, self.pixels, self.seen = 0, 0, 0
        self.classes: dict[str, NDArray[np.int64]] = {}
        C = len(reader.bands)
        self.low, self.high = np.full(C, np.iinfo(np.int16).max), np.full(C, np.iinfo(np.int16).min)

    def add(self, tile: Tile) -> None:
        """Count a tile that goes into the store."""
        self.images += len(tile.dates)
        self.pixels += tile.valid.size
        self.seen += int(tile.valid.sum())
        self.days.update(str(day) for day in tile.dates)
        histogram = np.bincount(tile.labels.ravel(), minlength=VOID + 1)
        for split in tile.split.split():
            self.splits[split] += 1
            self.classes[split] = self.classes.get(split, np.zeros(VOID + 1, np.int64)) + histogram
        if tile.valid.any():
            for band in range(len(self.low)):
                values = tile.reflectance[:, band][tile.valid]
                self.low[band] = min(self.low[band], values.min())
                self.high[band] = max(self.high[band], values.max())

    def document(self, ndvi: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
        """The content of validation.json.

        Args:
            ndvi: Median by class and month, of `ndvi_by_class_and_month`.
        """
        names = dict(enumerate(self.reader.classes)) | {VOID: "(outside every class)"}
        limits = zip(self.reader.bands, self.low.tolist(), self.high.tolist(), strict=True)
        return {
            "tiles": len(self.reader.ids) - len(self.rejected),
            "rejected_tiles": len(self.rejected),
            "absent_ids": sum(map(len, self.reader.absent.values())),
            "images": self.images,
            "cloud_share": 1 - self.seen / max(self.pixels, 1),
            "rejected": self.rejected,
            "absent": {why: list(ids) for why, ids in self.reader.absent.items()},
            "findings": {
                what: {"tiles": len(tiles), "events": sum(tiles.values()), "by_tile": tiles}
                for what, tiles in self.reader.findings.counts.items()
            },
            "splits": dict(self.splits),
            "dates_per_month": dict(sorted(Counter(day[:7] for day in self.days).items())),
            "pixels_per_class": {
                split: {names[i]: int(counts[i]) for i in np.flatnonzero(counts).tolist()}
                for split, counts in self.classes.items()
            },
            "reflectance_range": {name: [low, high] for name, low, high in limits} if self.seen else {},
            "ndvi": {
                name: {f"{month:02}": value for month, value in months.items()}
                for name, months in ndvi.items()
            },
        }  # fmt: skip


def ndvi_by_class_and_month(store: SeasonStore, most: int = 256) -> dict[str, dict[int, float]]:
    """NDVI of a class by month (1 to 12) of the season's year: the median over dates of the median over valid pixels.

    Only dates on which more than 70 % of the scene is valid count; the scene of a date is all tiles that have it.
    The medians over pixels are exact to 0.001.

    Args:
        store: The season. Without bands B04 and B08 the result is empty.
        most: Tiles to read, evenly taken from the store.
    """
    if not {"B04", "B08"} <= set(store.bands):
        return {}
    tiles = np.unique(np.linspace(0, len(store) - 1, most).round().astype(int)).tolist()
    dates = _clear_dates(store, tiles)
    counts = np.zeros((len(store.classes), len(dates), BINS), np.int32)
    for tile in tiles:
        _count_ndvi(store, tile, dates, counts)
    found: dict[str, dict[int, float]] = {}
    for name, by_date in zip(store.classes, counts, strict=True):
        medians: dict[int, list[float]] = {}
        for day, histogram in zip(dates, by_date, strict=True):
            if histogram.any():
                medians.setdefault(int(str(day)[5:7]), []).append(_median(histogram))
        if medians:
            found[name] = {month: round(float(np.median(values)), 4) for month, values in medians.items()}
    return found


def _count_ndvi(store: SeasonStore, tile: int, dates: NDArray[np.datetime64], counts: NDArray[np.int32]) -> None:
    """Add a tile's NDVI to the histograms [class, date, bin]."""
    red, nir = store.bands.index("B04"), store.bands.index("B08")
    kept = np.flatnonzero(np.isin(store.dates(tile), dates))
    if not len(kept):
        return
    reflectance, valid, labels = store.read(tile, kept)
    r, n = reflectance[:, red].astype(np.float64), reflectance[:, nir].astype(np.float64)
    bins = np.clip(((n - r) / np.maximum(n + r, 1) + 1) / 2 * BINS, 0, BINS - 1).astype(int)
    used = valid & (labels < len(store.classes))
    day = np.searchsorted(dates, store.dates(tile)[kept])[:, None, None]
    np.add.at(counts, tuple(np.broadcast_to(index, used.shape)[used] for index in (labels, day, bins)), 1)


def _clear_dates(store: SeasonStore, tiles: Sequence[int]) -> NDArray[np.datetime64]:
    """The dates of the season's own year on which the scene shows, ascending."""
    seen: Counter[np.datetime64] = Counter()
    pixels: Counter[np.datetime64] = Counter()
    for tile in tiles:
        valid = store.read_valid(tile)
        for day, count in zip(store.dates(tile), valid.sum(axis=(1, 2)).tolist(), strict=True):
            seen[day] += count
            pixels[day] += valid[0].size
    clear = [day for day, count in seen.items() if str(day)[:4] == store.season and count > CLEAR * pixels[day]]
    return np.array(sorted(clear), "datetime64[D]")


def _median(histogram: NDArray[np.int32]) -> float:
    """The middle of the bins that hold the middle values."""
    total, half = histogram.cumsum(), histogram.sum() / 2
    middle = (np.searchsorted(total, half) + np.searchsorted(total, half, side="right")) / 2
    return float((middle + 0.5) / BINS * 2 - 1)
