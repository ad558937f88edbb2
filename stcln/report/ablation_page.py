"""The ablation's section: a table a question, what they say in words, and pre-training's worth against labels drawn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from stcln import palette
from stcln.report import figures, html
from stcln.report.ablation import PLACES, Variant, read
from stcln.report.ablation_words import READING, Answer, Row, answers
from stcln.report.collect import Results
from stcln.spread import Spread

TITLE = "Ablation"
WORTH = "Pretrained minus scratch, equal labels, in points; above 0, pre-training is better"
CAPTION = (
    "Share of the training labels, on a logarithmic scale. Mean over seeds, bars one standard deviation, faint dots "
    "single runs."
)
Grid = Callable[[Sequence[str], Iterable[Sequence[str]]], str]


def section(results: Results) -> str:
    """The section of the page; empty where no variant was run."""
    found = answers(results)
    if not found:
        return ""
    parts = [html.paragraph(READING, "note"), *(_answer(one, results) for one in found)]
    return html.section("ablation", TITLE, *parts)


def markdown(results: Results, grid: Grid) -> list[str]:
    """The same as blocks of Markdown, without the figure.

    Args:
        results: The study's.
        grid: Makes a table of a head and rows.
    """
    found = answers(results)
    blocks = [f"## {TITLE}", READING] * bool(found)
    for one in found:
        head, groups = one.scores
        rows = [[place, *_texts(row)] for place, of in groups.items() for row in of]
        blocks += [f"### {one.question}, against {one.against}", "\n".join(f"- {said}" for said in one.said)]
        if rows:
            blocks.append(grid(["tested on", *(name.replace("\n", " ") for name in head)], rows))
        if one.worth[1]:
            blocks += [f"{WORTH}:", grid(one.worth[0], map(_texts, one.worth[1]))]
    return blocks


def _answer(one: Answer, results: Results) -> str:
    head, groups = one.scores
    rows = []
    for place, of in groups.items():
        rows += [html.group(f"tested on {place}", len(head)), *map(_row, of)]
    parts = [f"<h3>{html.prose(one.question)}, against {html.prose(one.against)}</h3>", html.listing(one.said)]
    if rows:
        parts.append(html.table(head, rows, texts=2))
    if one.worth[1]:
        head, worth = one.worth
        parts += [html.paragraph(f"{WORTH}:", "note"), html.table(head, [_row(row, 3) for row in worth], texts=3)]
    if drawn := label_shares(results, one.question):
        parts.append(html.figure(figures.svg(drawn), CAPTION, 760))
    return "".join(parts)


def _row(row: Row, texts: int = 2) -> str:
    cells = [html.cell(text, "t" if at < texts else "best" * bold) for at, (text, bold) in enumerate(row)]
    return f"<tr>{''.join(cells)}</tr>"


def _texts(row: Row) -> list[str]:
    return [text for text, _ in row]


def label_shares(results: Results, question: str) -> Figure | None:
    """Mean IoU against the share of labels, a line an arm, a panel a place; None where all variants have one share."""
    study, found = results.study, read(results.root)
    assert study.ablation is not None
    names = [name for name in study.ablation.questions[question] if name in found and found[name].seeds]
    shares = {name: {arm: of.labels for arm, of in study.variant(name).arms.items()} for name in names}
    if len({tuple(of.items()) for of in shares.values()}) < 2:
        return None
    places = [place for place in PLACES if any(where == place for name in names for _, where in found[name].scores)]
    with mpl.rc_context(figures.STYLE):
        figure = Figure(figsize=(0.8 + 3.3 * len(places), 2.9), layout="constrained")
        panels = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
        for axes, place in zip(panels, places, strict=True):
            for arm in study.cells.arm:
                _line(axes, [(shares[n][arm], found[n]) for n in names], (arm, place), results)
            axes.set_title(f"tested on {place}")
            axes.set(xscale="log", xlabel="labels")
            axes.set_xticks(sorted({share for of in shares.values() for share in of.values()}))
            axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
            axes.xaxis.set_minor_formatter(NullFormatter())
        panels[0].set_ylabel("mIoU")
        named = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(named.values(), named.keys(), loc="outside upper right", ncols=min(len(named), 5))
        figure.suptitle(figures.marked("mIoU by share of labels", results), x=0.01, ha="left", fontsize=10)
    return figure


def _line(axes: Any, points: Sequence[tuple[float, Variant]], key: tuple[str, str], results: Results) -> None:
    colours: Mapping[str, str] = palette.of_arms(results.study.cells.arm)
    known = sorted(((share, one.scores[key]["miou"]) for share, one in points if key in one.scores), key=lambda p: p[0])
    spreads = [Spread.of(values) for _, values in known]
    axes.errorbar(
        [share for share, _ in known], [s.mean for s in spreads], [s.sd or 0 for s in spreads],
        color=colours[key[0]], marker="o", markersize=4.5, capsize=3, elinewidth=1.1, label=key[0],
    )  # fmt: skip
    faint = {"color": colours[key[0]], "alpha": 0.35, "markersize": 3, "markeredgewidth": 0}
    for share, values in known:
        axes.plot([share] * len(values), values, "o", **faint)
