"""NDVI by crop and month, cloud share and the spectrum of leaves, of a season's counts; in bounded memory."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.prepare.count import BINS, Count

CLEAR = 0.7  # a date shows the scene if more than this share of its pixels is valid


class Greenness:
    """Adds up what the counts of a season's tiles say of light.

    Args:
        season: Its name, a year.
        classes: Class names by index.
        bands: The reader's.
    """

    def __init__(self, season: str, classes: Sequence[str], bands: Sequence[str]) -> None:
        self.season, self.classes, self.bands = season, classes, bands
        self.seen: Counter[str] = Counter()  # pixels by day
        self.pixels: Counter[str] = Counter()
        self.rows: dict[str, int] = {}  # of a day in `counts`
        self.counts = np.zeros((len(classes), 0, BINS), np.int64)
        self.green, self.spectrum = 0, np.zeros(len(bands), np.int64)

    def add(self, count: Count) -> None:
        """Add a tile."""
        side = count.size[0] * count.size[1]
        self.seen.update(dict(zip(count.days, count.seen, strict=True)))
        self.pixels.update(dict.fromkeys(count.days, side))
        rows = np.array([self.rows.setdefault(day, len(self.rows)) for day in count.days])
        if (more := len(self.rows) - self.counts.shape[1]) > 0:
            self.counts = np.pad(self.counts, ((0, 0), (0, more), (0, 0)))
        crop, day, level, pixels = count.histogram()
        self.counts[np.array(count.crops, np.int64)[crop], rows[day], level] += pixels
        self.green += count.green
        self.spectrum[: len(count.spectrum)] += np.array(count.spectrum, np.int64)

    def clouds(self) -> dict[str, Any]:
        """Share of pixels that are not valid, of all dates and by month `2016-05`."""
        seen, pixels = Counter[str](), Counter[str]()
        for day, count in self.pixels.items():
            seen[day[:7]] += self.seen[day]
            pixels[day[:7]] += count
        return {
            "invalid_share": 1 - seen.total() / max(pixels.total(), 1),
            "invalid_share_per_month": {month: round(1 - seen[month] / pixels[month], 4) for month in pixels},
        }

    def medians(self) -> dict[str, dict[str, float]]:
        """NDVI of a class by month (`01` to `12`) of the season's year: median over dates of the median over pixels.

        Only dates on which more than 70 % of the scene is valid count; the scene of a date is all tiles that have it.
        A median over pixels is exact to the width of a bin, 0.005.
        """
        shown = [d for d in sorted(self.rows) if d[:4] == self.season and self.seen[d] > CLEAR * self.pixels[d]]
        found: dict[str, dict[str, float]] = {}
        for name, by_date in zip(self.classes, self.counts, strict=True):
            months: dict[str, list[float]] = {}
            for day in shown:
                if (histogram := by_date[self.rows[day]]).any():
                    months.setdefault(day[5:7], []).append(_median(histogram))
            if months:
                found[name] = {month: round(float(np.median(values)), 4) for month, values in months.items()}
        return found

    def leaves(self) -> dict[str, Any]:
        """Pixels with an NDVI above 0.6 on the date of each tile that has most of them, and their mean reflectance."""
        means = zip(self.bands, self.spectrum.tolist(), strict=True)
        reflectance = {name: round(total / self.green, 1) for name, total in means if total}
        return {"pixels": self.green, "reflectance": reflectance}


def _median(histogram: NDArray[np.int64]) -> float:
    """Mean of the two middle values of a histogram, the values of a bin taken as evenly spread over it."""
    total = histogram.cumsum()
    middle = np.array([(total[-1] - 1) // 2, total[-1] // 2])
    at = np.searchsorted(total, middle, side="right")
    within = (middle - total[at] + histogram[at] + 0.5) / histogram[at]
    return float((at + within).mean() / BINS * 2 - 1)
