"""What a model is given of a tile: chosen dates, their positions and validity, by the switches of `method`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stcln.data.lengths import choose
from stcln.study import Length, Method


@dataclass(frozen=True)
class Series:
    """A window of a tile in memory.

    Attributes:
        tile: The tile's id.
        season: Its season.
        start: Day 0 of positions.
        dates: datetime64[D] [T], ascending.
        reflectance: int16 [T,C,H,W], x 10,000.
        valid: bool [T,H,W], true where a model may look.
        labels: uint8 [H,W]; 255 = no label.
    """

    tile: str
    season: str
    start: date
    dates: NDArray[np.datetime64]
    reflectance: NDArray[np.int16]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]

    def positions(self, method: Method) -> NDArray[np.int64]:
        """int64 [T]: days since the season's start, or (`positions: index`) the index of the date."""
        if method.positions == "index":
            return np.arange(len(self.dates))
        return (self.dates - np.datetime64(self.start, "D")).astype(np.int64)

    def cut(self, length: Length, rng: np.random.Generator | None) -> "Series":
        """The series at the dates of a length; random lengths draw from `rng`."""
        kept = choose(self.dates, length, self.season, rng)
        return replace(self, dates=self.dates[kept], reflectance=self.reflectance[kept], valid=self.valid[kept])


def drawable(length: Length) -> tuple[Length, Length | None]:
    """A length as (what is the same at every draw, what is drawn anew from that): a random rule reads every date."""
    if length.choose == "even":
        return length, None
    return length.model_copy(update={"dates": None, "choose": "even"}), length


def statistics(series: Iterable[Series]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation [C] of the valid pixels of some series, reflectance x 10,000: `statistics: split`."""
    count, total, square = 0, 0.0, 0.0
    for one in series:
        seen = np.moveaxis(one.reflectance, 1, -1)[one.valid].astype(np.float64)
        count, total, square = count + len(seen), total + seen.sum(0), square + (seen**2).sum(0)
    mean = np.asarray(total) / max(count, 1)
    deviation = np.sqrt(np.maximum(np.asarray(square) / max(count, 1) - mean**2, 1.0))
    return mean.astype(np.float32), deviation.astype(np.float32)
