"""The ablation in words and tables, for the page and for Markdown alike: what is clear, what is not, what cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stcln.report.ablation import PLACES, Gain, Line, Variant, gains, lines, read
from stcln.report.collect import Results
from stcln.report.differences import points
from stcln.spread import Spread

Row = list[tuple[str, bool]]
"""A text a column, each with whether it is a difference whose interval leaves out 0."""

READING = (
    "Each variant changes only what its name says. A seed is a whole run, pre-training included, so that spread and "
    "interval hold the variance of pre-training too. Differences are paired by seed, in points, with the 95 % interval "
    "of the mean by Student's t; clear is one whose interval leaves out 0. Fewer than three seeds have "
    "no interval, and a ± is their standard deviation."
)


@dataclass(frozen=True)
class Answer:
    """A question's part of the report.

    Attributes:
        question: Its name.
        against: The variant that the others are compared with.
        said: Sentences.
        scores: Head and rows of the table of scores, a group a place.
        worth: Head and rows of pretrained minus scratch; no rows where nothing can be paired.
    """

    question: str
    against: str
    said: list[str]
    scores: tuple[list[str], dict[str, list[Row]]]
    worth: tuple[list[str], list[Row]]


def answers(results: Results) -> list[Answer]:
    """An answer a question; none for a study without an ablation that was run."""
    found, ablation = read(results.root), results.study.ablation
    if not found or ablation is None:
        return []
    return [_answer(results, question, names, found) for question, names in ablation.questions.items()]


def _answer(results: Results, question: str, names: tuple[str, ...], found: Mapping[str, Variant]) -> Answer:
    table, worth, against = lines(names, found), list(gains(results.study, names, found)), names[0]
    head = ["variant", "arm", "mIoU", "OA", "macro-F1", f"mIoU\nminus {against}", f"OA\nminus {against}", "seeds"]
    groups = {place: [_row(line) for line in table if line.place == place] for place in PLACES}
    gained = [
        [(g.variant, False), (f"{g.arm} − {g.against}", False), (g.place, False), _points(g.miou), _points(g.oa),
         (str(g.miou.n), False)]
        for g in worth
    ]  # fmt: skip
    return Answer(
        question, against, [*_compared(against, table), *_worth(worth), *_without(names, found)],
        (head, {place: rows for place, rows in groups.items() if rows}),
        (["variant", "arms", "tested on", "mIoU", "OA", "seeds"], gained),
    )  # fmt: skip


def _row(line: Line) -> Row:
    scores = [(line.scores[metric].text(), False) for metric in ("miou", "oa", "mf1")]
    deltas = [("equal", False)] * 2 if line.same else [_points(line.miou), _points(line.oa)]
    return [(line.variant, False), (line.arm, False), *scores, *deltas, (str(line.scores["miou"].n), False)]


def _points(spread: Spread | None) -> tuple[str, bool]:
    return (points(spread), spread.settled) if spread else ("", False)


def _compared(against: str, table: Sequence[Line]) -> list[str]:
    """Which differences to the first variant are clear, in mIoU."""
    compared = [line for line in table if line.miou and not line.same]
    clear = [line for line in compared if line.miou and line.miou.settled]
    named = [f"{line.variant}, {line.arm} on {line.place}, {points(line.miou)}" for line in clear if line.miou]
    said = []
    if compared:
        said.append(
            f"Clear against {against} in mIoU, of {len(compared)} differences (about one in twenty that are nothing is "
            f"so by chance): {'; '.join(named) or 'none'}."
        )
        unclear = dict.fromkeys(line.variant for line in compared if line not in clear)
        if never := [name for name in unclear if name not in {line.variant for line in clear}]:
            said.append(f"Not clear for any arm on any season: {', '.join(never)}.")
    if same := [name for name, of in _by_variant(table).items() if all(line.same for line in of)]:
        said.append(f"Run, and every score equal to that of {against}: {', '.join(same)}.")
    return said


def _by_variant(table: Sequence[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in table:
        found.setdefault(line.variant, []).append(line)
    return found


def _worth(found: Sequence[Gain]) -> list[str]:
    """Where pre-training helped or cost, in mIoU."""
    if not found:
        return []
    clear = [f"{g.variant} on {g.place}, {points(g.miou)}" for g in found if g.miou.settled]
    return [
        f"Pretrained minus scratch, clear in mIoU in {len(clear)} of {len(found)} pairs: {'; '.join(clear) or 'none'}."
    ]


def _without(names: Sequence[str], found: Mapping[str, Variant]) -> list[str]:
    """What has no effect on these data, with the reason, and what was not run."""
    idle = {name: found[name].idle for name in names if name in found and found[name].idle}
    said = [f"No effect here, so not run: {name}, since {why}." for name, why in idle.items()]
    if absent := [name for name in names if name not in found]:
        said.append(f"Not yet run and missing here: {', '.join(absent)}.")
    return said
