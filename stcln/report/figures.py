"""Figures, as SVG that takes the page's colours (light or dark) or as PNG; equal numbers give equal bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from stcln import palette
from stcln.report.collect import Results, Test
from stcln.spread import Spread

INK, RULE, QUIET = "#1c2024", "#d9dde1", "#5d666e"  # the page's colours; SVG takes the variables of these names
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET,
    "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": RULE, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none", "svg.fonttype": "none",
    "svg.hashsalt": "stcln", "lines.linewidth": 1.8, "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip
MONTHS = "JFMAMJJASOND"


def svg(figure: Figure) -> str:
    """A figure as an inline `<svg>` element without names that two figures could share."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.04
        )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", text)
    for colour, name in ((INK, "ink"), (RULE, "rule"), (QUIET, "quiet")):
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text)


def png(figure: Figure) -> bytes:
    """A figure as PNG on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="png", dpi=180, facecolor="white", metadata={"Software": None},
            bbox_inches="tight", pad_inches=0.1,
        )  # fmt: skip
    return buffer.getvalue()


def marked(title: str, results: Results) -> str:
    """A figure's title, which says so when the data are simulated."""
    return f"{title} — simulated data" if results.simulated else title


def score_against_length(results: Results) -> Figure:
    """Figure 3 of the paper: mIoU against length, a line an arm (mean and seeds), a panel a season pair."""
    seasons, lengths = results.study.cells.season, results.lengths
    with mpl.rc_context(STYLE):
        n = len(seasons)
        figure = Figure(figsize=(1.2 + max(3.6, 0.75 * len(lengths)) * n, 0.7 + 2.6 * n), layout="constrained")
        panels = figure.subplots(n, n, sharex=True, sharey=True, squeeze=False)
        for row, season in enumerate(seasons):
            for column, tested in enumerate(seasons):
                axes = panels[row][column]
                also = "" if season == tested else f"  {results.relation(season, tested)}"
                axes.set_title(f"{season} → {tested}{also}")
                for place, arm in enumerate(results.study.cells.arm):
                    tests = [results.test(season, length, arm, tested) for length in lengths]
                    _line(axes, tests, arm, results, place)
                axes.set_xticks(range(len(lengths)), [_length_label(results, name) for name in lengths])
                axes.set_xlim(-0.35, len(lengths) - 0.65)
            panels[row][0].set_ylabel("mIoU")
        named = dict(zip(*reversed(panels[0][0].get_legend_handles_labels()), strict=True))
        figure.legend(named.values(), named.keys(), loc="outside upper right", ncols=min(len(named), 5))
        title = marked("mIoU by season length, trained → tested", results)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5)
    return figure


def _line(axes: Any, tests: Sequence[Test | None], arm: str, results: Results, place: int) -> None:
    colour = palette.of_arms(results.study.cells.arm)[arm]
    shift = (place - (len(results.study.cells.arm) - 1) / 2) * 0.06
    known = [(at + shift, test.values["miou"]) for at, test in enumerate(tests) if test]
    if not known:
        return
    spreads = [Spread.of(values) for _, values in known]
    axes.errorbar(
        [at for at, _ in known], [s.mean for s in spreads], [s.sd or 0 for s in spreads],
        color=colour, marker="o", markersize=5, capsize=3, elinewidth=1.1, label=arm,
    )  # fmt: skip
    for at, values in known:
        axes.plot([at] * len(values), values, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)


def _length_label(results: Results, length: str) -> str:
    counts = sorted({season.dates[length] for season in results.seasons.values()})
    return f"{length}\n{'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} dates"


def learning_curves(results: Results) -> Figure:
    """Training loss and validation score by epoch at the longest length; a line a seed, a column a season."""
    seasons, colours = results.study.cells.season, palette.of_arms(results.study.cells.arm)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1 + 3.9 * len(seasons), 4.2), layout="constrained")
        panels = figure.subplots(2, len(seasons), sharex="col", sharey="row", squeeze=False)
        for column, season in enumerate(seasons):
            panels[0][column].set_title(marked(f"fine-tuning on {season}, “{results.longest}”", results))
            for cell in (c for c in results.cells if (c.season, c.length) == (season, results.longest)):
                for number, history in enumerate(cell.histories.values()):
                    label = cell.arm if number == 0 else None
                    for row, field in enumerate(("loss", "validation")):
                        steps = [(e["epoch"], e[field]) for e in history["epochs"] if e.get(field) is not None]
                        panels[row][column].plot(
                            *zip(*steps, strict=True), color=colours[cell.arm], lw=1.2, alpha=0.85, label=label
                        )
            panels[1][column].set_xlabel("epoch")
            panels[1][column].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0][0].set_ylabel("training loss")
        panels[1][0].set_ylabel("validation score")
        named = dict(zip(*reversed(panels[0][0].get_legend_handles_labels()), strict=True))
        if named:
            figure.legend(named.values(), named.keys(), loc="outside upper right", ncols=min(len(named), 5))
    return figure


def pretraining_curve(history: Mapping[str, Any], results: Results) -> Figure:
    """Reconstruction loss by epoch, training and validation where it was measured."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.3), layout="constrained")
        axes = figure.subplots()
        for field, colour, name in (
            ("loss", palette.ARMS[1], "training"),
            ("validation", palette.ARMS[2], "validation"),
        ):
            steps = [(e["epoch"], e[field]) for e in history["epochs"] if e.get(field) is not None]
            if steps:
                axes.plot(*zip(*steps, strict=True), color=colour, label=name)
        axes.set(xlabel="epoch", ylabel="squared error of hidden pixels")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(marked("pre-training", results))
        axes.legend(ncols=2, loc="upper right")
    return figure


def ndvi_curves(results: Results) -> Figure:
    """Median NDVI by month, a panel a class, a line a season."""
    names = sorted({name for season in results.seasons.values() for name in season.ndvi}, key=results.classes.index)
    names = [
        name for name in names if any(np.isfinite(s.ndvi.get(name, np.nan)).any() for s in results.seasons.values())
    ]
    columns = min(5, max(len(names), 1))
    rows = -(-max(len(names), 1) // columns)
    colours = palette.of_classes(len(results.classes), results.ignore)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.4 + 2.1 * columns, 0.5 + 1.45 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(name, fontsize=8.5)
            for dash, (label, season) in zip(("-", "--", ":", "-."), results.seasons.items(), strict=False):
                curve = season.ndvi.get(name, np.full(12, np.nan))
                known = np.flatnonzero(np.isfinite(curve))
                axes.plot(known, curve[known], dash, color=colours[results.classes.index(name)], label=label)
            axes.set_xticks(range(0, 12, 2), list(MONTHS[::2]))
            axes.set_xlim(0, 11)
            axes.set_ylim(-0.05, 1)
            axes.set_yticks([0, 0.5, 1])
        figure.legend(
            handles=[Line2D([], [], color=INK, ls=dash, label=name)
                     for dash, name in zip(("-", "--", ":", "-."), results.seasons, strict=False)],
            loc="outside upper right", ncols=4,
        )  # fmt: skip
        figure.supylabel("NDVI", fontsize=9)
        figure.suptitle(marked("median NDVI by month", results), x=0.01, ha="left", fontsize=9.5)
    return figure


def confusion(test: Test, results: Results) -> Figure:
    """A confusion matrix in shares of the truth's row; without the classes that are not scored or have no truth."""
    keep = [k for k in range(len(test.confusion)) if k not in results.ignore and test.confusion[k].sum() > 0]
    counts = test.confusion[np.ix_(keep, keep)]
    shares = counts / np.maximum(test.confusion[keep].sum(1, keepdims=True), 1)
    names = [results.classes[k] for k in keep]
    side = 0.34 * len(keep) + 0.5
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(side + 1.5, side + 1.3))
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="none")
        axes.set_xticks(range(len(keep)), names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(keep)), names, fontsize=8)
        axes.spines[:].set_visible(False)
        axes.set_title(marked(f"{test.arm} {test.season} → {test.tested}", results), loc="left")
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.05:
                colour = "white" if share > 0.55 else "#14171a"
                axes.text(column, row, f"{share * 100:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def reconstruction_series(days: np.ndarray, observed: np.ndarray, rebuilt: np.ndarray, hidden: np.ndarray) -> Figure:
    """A pixel's NDVI: what was shown, what was hidden, what was rebuilt. All [T]; days since the season's start."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.plot(days, rebuilt, color=palette.ARMS[2], lw=1.4, label="reconstruction")
        axes.plot(days[~hidden], observed[~hidden], "o", color=palette.ARMS[1], markersize=4.5, label="shown")
        axes.plot(
            days[hidden], observed[hidden], "o", markerfacecolor="none", markeredgewidth=1.3,
            color=palette.ARMS[1], markersize=5.5, label="hidden from the network",
        )  # fmt: skip
        axes.set(xlabel="days since the season's start", ylabel="NDVI")
        figure.legend(loc="outside upper right", ncols=3)
    return figure
