"""Statistics over seeds, and Table 1. Spread is always the sample standard deviation over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcln.report.collect import PARITY, Results

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantile of Student's t by degrees of freedom, from 1; the last, a little wide, serves beyond."""


FEW = 3  # seeds, from which on an interval is given


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `n` seeds; no deviation for one seed."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Spread":
        """Of one value a seed; NaN are left out."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(np.nan, None, 0)
        return cls(float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else None, len(known))

    def text(self, scale: float = 1, digits: int = 3, sign: bool = False) -> str:
        """`0.512 ± 0.013`, or the mean alone, or a dash."""
        if not self.n:
            return "–"
        mean = f"{self.mean * scale:{'+' if sign else ''}.{digits}f}".replace("-", "−")
        return mean if self.sd is None else f"{mean} ± {self.sd * scale:.{digits}f}"

    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean by Student's t; without bounds below `FEW` seeds, where it would say nothing."""
        if self.sd is None or self.n < FEW:
            return -np.inf, np.inf
        half = STUDENT[min(self.n - 2, len(STUDENT) - 1)] * self.sd / self.n**0.5
        return self.mean - half, self.mean + half

    @property
    def settled(self) -> bool:
        """Whether the interval leaves out 0: the one rule by which the report calls a difference clear."""
        low, high = self.interval()
        return not low <= 0 <= high

    def bounds(self) -> str:
        """`−1.2 to +3.4` in points: the interval; empty below `FEW` seeds."""
        if self.n < FEW:
            return ""
        return " to ".join(f"{bound * 100:+.1f}".replace("-", "−") for bound in self.interval())

    def json(self) -> dict[str, float | int | None]:
        """As JSON values."""
        return {"mean": self.mean if self.n else None, "sd": self.sd, "n": self.n}


@dataclass(frozen=True)
class Row:
    """A line of Table 1. `best`: the highest mean mIoU among the arms of the same pair and length."""

    season: str
    tested: str
    length: str
    arm: str
    scores: Mapping[str, Spread]
    majority: float
    trained: float
    best: bool


def table(results: Results) -> list[Row]:
    """Table 1: a row for every season pair, length and arm that was tested; own season first."""
    rows = []
    seasons = results.study.cells.season
    for season, tested in sorted(((a, b) for a in seasons for b in seasons), key=lambda pair: pair[0] != pair[1]):
        for length in results.lengths:
            found = [results.test(season, length, arm, tested) for arm in results.study.cells.arm]
            known = [test for test in found if test]
            top = max((test.values["miou"].mean() for test in known), default=0)
            rows += [
                Row(season, tested, length, t.arm, {m: Spread.of(v) for m, v in t.values.items()}, t.majority,
                    t.trained, len(known) > 1 and bool(t.values["miou"].mean() == top))
                for t in known
            ]  # fmt: skip
    return rows


def parity(results: Results) -> list[tuple[str, str, str, dict[str, str]]]:
    """Trained, tested, length, and by arm `OA · mIoU · macro-F1` as the paper's code has them; means over seeds."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in table(results):
        test = results.test(row.season, row.length, row.arm, row.tested)
        if test:
            means = " · ".join(f"{test.parity[metric].mean():.3f}" for metric in PARITY)
            rows.setdefault((row.season, row.tested, row.length), {})[row.arm] = means
    return [(*key, arms) for key, arms in rows.items()]
