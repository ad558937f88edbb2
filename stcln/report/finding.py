"""The finding in words, computed from the numbers."""

from collections.abc import Sequence

import numpy as np

from stcln.report.collect import Results, Test
from stcln.report.differences import partner
from stcln.spread import FEW, Spread

COVERED = 0.9  # share of tested pixels of trained classes below which a score is qualified
NAMED = 3  # pairs of seasons named in a sentence


def headline(results: Results) -> tuple[str, str]:
    """The finding in a sentence or two, and the sentences that qualify it."""
    length, arm = results.longest, next(iter(results.study.cells.pretrained), None)
    against = partner(results, arm) if arm else None
    cross = len(results.study.cells.season) > 1
    where = (results.another if results.apart else "a season without labels") if cross else "the season of its labels"
    tests = [_tests(results, str(name), length, cross) for name in (arm, against)]
    gains = [_mean_by_seed(found) for found in tests]
    both = sorted(gains[0].keys() & gains[1].keys())
    if not both:
        return _best(results, length, cross, where)
    gain = Spread.of(np.array([gains[0][seed] - gains[1][seed] for seed in both]))
    levels = [Spread.of(np.array([g[seed] for seed in both])) for g in gains]
    share = f"{results.study.arms[str(arm)].labels:.0%} of the labels".replace("100% of the", "all")
    pairs = "mean of all pairs of different seasons" if cross else "one season only: nothing is said of another year"
    dates = sorted({season.dates[length] for season in results.seasons.values()})
    seeds = f"{gain.n} seeds, paired" if gain.n > 1 else "one seed only, so nothing is known of the spread"
    return _finding(gain, where) + _coverage([*tests[0], *tests[1]]), (
        f"{arm} {levels[0].text()} against {against} {levels[1].text()}, both with {share}, at length “{length}” "
        f"({' or '.join(map(str, dates))} dates); {pairs}; {seeds}. {_seen(results)}"
    )


def _finding(gain: Spread, where: str) -> str:
    """What the paired difference says by its 95 % interval: gained, lost, or no clear difference."""
    amount = Spread(gain.mean, None, gain.n).text(100, 1, sign=True)
    verb = "gained" if gain.mean > 0 else "lost"
    change = f"{verb} {amount[1:]} points of mIoU" if float(amount[1:]) else "left the mIoU as it was"
    if gain.n < FEW:
        seeds = "1 seed is" if gain.n == 1 else f"{gain.n} seeds are"
        return f"Pre-training {change} on {where}, though {seeds} too few to be sure."
    interval = f"95 % interval {gain.bounds()}"
    if not gain.settled:
        return f"Pre-training made no clear difference on {where}: {amount} points of mIoU, {interval}."
    return f"Pre-training {change} on {where}, {interval}."


def _coverage(tests: Sequence[Test]) -> str:
    """How few of the tested pixels the models could name at all, and in which pairs; empty where it is most of them."""
    low = [test for test in tests if test.trained < COVERED]
    if not low:
        return ""
    least, most = (f"{bound([test.trained for test in low]) * 100:.0f}" for bound in (min, max))
    span = least if least == most else f"{least} to {most}"
    pairs = [dict.fromkeys(f"{test.season} → {test.tested}" for test in found) for found in (low, tests)]
    named = ", ".join(pairs[0]) if len(pairs[0]) <= NAMED else f"{len(pairs[0])} of {len(pairs[1])} pairs"
    where = "" if pairs[0] == pairs[1] else f"In {named}, only"
    return f" {where or 'Only'} {span} % of the tested pixels belong to a class the models had labels for."


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
        finding + _coverage([top]),
        f"{detail}, where the best constant answer gives {top.majority:.3f}. No pair of arms to compare.",
    )


def _tests(results: Results, arm: str, length: str, cross: bool) -> list[Test]:
    return [test for test in results.tests if (test.arm, test.length) == (arm, length) and test.same != cross]


def _mean_by_seed(tests: Sequence[Test]) -> dict[int, float]:
    """Mean mIoU over the season pairs, for the seeds that every pair has."""
    seeds = set.intersection(*(set(test.seeds) for test in tests)) if tests else set()
    return {s: float(np.mean([t.values["miou"][t.seeds.index(s)] for t in tests])) for s in sorted(seeds)}
