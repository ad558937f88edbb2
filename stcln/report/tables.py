"""Table 1."""

from collections.abc import Mapping
from dataclasses import dataclass

from stcln.report.collect import PARITY, Results
from stcln.spread import Spread


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
