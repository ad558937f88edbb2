"""Statistics over seeds, and the finding in words. Spread is always the sample standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcln.report.collect import Results

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantile of Student's t by degrees of freedom, from 1; the last, a little wide, serves beyond."""


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
        """95 % interval of the mean by Student's t; without bounds for one seed."""
        if self.sd is None:
            return -np.inf, np.inf
        half = STUDENT[min(self.n - 2, len(STUDENT) - 1)] * self.sd / self.n**0.5
        return self.mean - half, self.mean + half

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
    best: bool


@dataclass(frozen=True)
class Difference:
    """A comparison by seed, in mIoU and OA: of a pretrained arm with its scratch arm, or of same with other season."""

    season: str
    tested: str
    length: str
    arm: str
    against: str
    miou: Spread
    oa: Spread


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
                    len(known) > 1 and bool(t.values["miou"].mean() == top))
                for t in known
            ]  # fmt: skip
    return rows


def partner(results: Results, arm: str) -> str | None:
    """The scratch arm with as many labels as a pretrained one; None if there is none, as no other pair is fair."""
    arms = results.study.arms
    return next((name for name in results.study.cells.scratch if arms[name].labels == arms[arm].labels), None)


def differences(results: Results) -> list[Difference]:
    """Pretrained minus scratch with the same labels, seed by seed."""
    found = []
    for arm in results.study.cells.pretrained:
        against = partner(results, arm)
        for test in (t for t in results.tests if t.arm == arm and against):
            other = results.test(test.season, test.length, str(against), test.tested)
            if other:
                miou, oa = (_paired(test.seeds, test.values[m], other.seeds, other.values[m]) for m in ("miou", "oa"))
                found.append(
                    Difference(test.season, test.tested, test.length, arm, str(against), Spread.of(miou), Spread.of(oa))
                )
    return found


def drops(results: Results) -> list[Difference]:
    """Trained on the tested season minus trained on another, on the same test pixels, seed by seed."""
    found = []
    for test in (t for t in results.tests if not t.same):
        own = results.test(test.tested, test.length, test.arm, test.tested)
        if own:
            miou, oa = (_paired(own.seeds, own.values[m], test.seeds, test.values[m]) for m in ("miou", "oa"))
            found.append(
                Difference(test.season, test.tested, test.length, test.arm, test.tested, Spread.of(miou), Spread.of(oa))
            )
    return found


def _paired(
    seeds: Sequence[int], values: NDArray[np.float64], other_seeds: Sequence[int], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    left, right = dict(zip(seeds, values, strict=True)), dict(zip(other_seeds, others, strict=True))
    return np.array([left[seed] - right[seed] for seed in seeds if seed in right])


def headline(results: Results) -> tuple[str, str]:
    """The finding in one sentence computed from the numbers, and the sentence that qualifies it."""
    length, arm = results.longest, next(iter(results.study.cells.pretrained), None)
    against = partner(results, arm) if arm else None
    cross = len(results.study.cells.season) > 1
    where = "a season without labels" if cross else "the season of its labels"
    gains = _mean_by_seed(results, str(arm), length, cross), _mean_by_seed(results, str(against), length, cross)
    both = sorted(gains[0].keys() & gains[1].keys())
    if not both:
        return _best(results, length, cross, where)
    gain = Spread.of(np.array([gains[0][seed] - gains[1][seed] for seed in both]))
    levels = [Spread.of(np.array([g[seed] for seed in both])) for g in gains]
    share = f"{results.study.arms[str(arm)].labels:.0%} of the labels".replace("100% of the", "all")
    pairs = "mean of all pairs of different seasons" if cross else "one season only: nothing is said of another year"
    dates = sorted({season.dates[length] for season in results.seasons.values()})
    return _finding(gain, where), (
        f"{arm} {levels[0].text()} against {against} {levels[1].text()}, both with {share}, at length “{length}” "
        f"({' or '.join(map(str, dates))} dates); {pairs}; {_certainty(gain)}. {_seen(results)}"
    )


def _finding(gain: Spread, where: str) -> str:
    """What the paired difference says: gained, lost, not settled, or no clear difference."""
    amount = gain.text(100, 1, sign=True)
    if gain.sd is not None and abs(gain.mean) <= gain.sd:
        return (
            f"Pre-training made no clear difference on {where}: {amount} points of mIoU, within the spread over seeds."
        )
    verb = "gained" if gain.mean > 0 else "lost"
    low, high = gain.interval()
    doubt = f", though {gain.n} seed{'s are' if gain.n > 1 else ' is'} too few to be sure" if low <= 0 <= high else ""
    return f"Pre-training {verb} {amount[1:]} points of mIoU on {where}{doubt}."


def _certainty(gain: Spread) -> str:
    if gain.sd is None:
        return "one seed only, so nothing is known of the spread"
    low, high = (f"{bound * 100:+.1f}".replace("-", "−") for bound in gain.interval())
    return f"{gain.n} seeds, paired; 95 % interval of the gain {low} to {high} points"


def _seen(results: Results) -> str:
    seasons = " and ".join(results.study.pretrain.seasons)
    return f"Pre-training saw unlabelled series of {seasons}, from tiles that are never tested on."


def _best(results: Results, length: str, cross: bool, where: str) -> tuple[str, str]:
    tests = [t for t in results.tests if t.length == length and t.same != cross] or list(results.tests)
    top = max(tests, key=lambda test: float(test.values["miou"].mean()))
    miou, oa = Spread.of(top.values["miou"]), Spread.of(top.values["oa"])
    finding = f"{top.arm.capitalize()} reached a mIoU of {miou.text()} on {where}."
    detail = f"Trained on {top.season}, tested on {top.tested}, length “{top.length}”; overall accuracy {oa.text()}"
    return (
        finding,
        f"{detail}, where always saying the most frequent class gives {top.majority:.3f}. No pair of arms to compare.",
    )


def _mean_by_seed(results: Results, arm: str, length: str, cross: bool) -> dict[int, float]:
    """Mean mIoU over the season pairs, for the seeds that every pair has."""
    tests = [t for t in results.tests if t.arm == arm and t.length == length and t.same != cross]
    if not tests:
        return {}
    seeds = set.intersection(*(set(test.seeds) for test in tests))
    return {s: float(np.mean([t.values["miou"][t.seeds.index(s)] for t in tests])) for s in sorted(seeds)}
