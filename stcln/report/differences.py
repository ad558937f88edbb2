"""Comparisons by seed on the same test pixels: pretrained with scratch, own season with another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcln.report.collect import Results
from stcln.spread import Spread

GAINS = ("pretrained arm", "scratch arm", "length", "trained → tested")
FALLS = ("arm", "length", "tested on\n(own)", "trained on\n(other)")
SIGNS: dict[tuple[str, ...], str] = {GAINS: "pretrained − scratch", FALLS: "own − other"}


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


def heads(names: tuple[str, ...]) -> list[str]:
    """The columns of a table of differences, `GAINS` or `FALLS`: what is compared, then the numbers and their sign."""
    return [*names, *(f"{metric}\n{SIGNS[names]}" for metric in ("mIoU", "OA")), "seeds"]


def numbers(found: Difference) -> list[tuple[str, bool]]:
    """The numbers of a row in points, each with whether its interval leaves out 0."""
    texts = [(points(spread), spread.settled) for spread in (found.miou, found.oa)]
    return [*texts, (str(found.miou.n), False)]


def points(spread: Spread) -> str:
    """A difference in points with its interval: `+1.2 (+0.3 to +2.1)`."""
    if not spread.bounds():
        return spread.text(100, 1, sign=True)
    return f"{Spread(spread.mean, None, spread.n).text(100, 1, sign=True)} ({spread.bounds()})"
