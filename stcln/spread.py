"""Mean and spread over seeds, and the one rule by which a difference is called clear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
