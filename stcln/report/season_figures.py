"""Small plots of the seasons: dates and clouds by month, classes by split."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stcln import palette
from stcln.report.collect import Results, Season
from stcln.report.figures import INK, MONTHS, QUIET, STYLE, marked


def used(results: Results, season: Season) -> dict[str, Mapping[str, int]]:
    """Pixels by class of a season's splits, of those that the study uses."""
    roles = results.study.splits
    taken = {split for role in (roles.pretrain, roles.train, roles.validation, roles.test) for split in role.take}
    counts: Mapping[str, Mapping[str, int]] = season.validation["pixels_per_class"]
    return {split: counts[split] for split in sorted(counts) if split in taken}


def dates(results: Results, masked: bool) -> Figure:
    """Days with an image by month, a panel a season; with `masked` the share of pixels that is masked."""
    seasons = results.seasons
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 3.4 * len(seasons), 1.9), layout="constrained")
        panels = figure.subplots(1, len(seasons), sharey=True, squeeze=False)[0]
        for axes, (name, season) in zip(panels, seasons.items(), strict=True):
            counts = season.validation["dates_per_month"]
            months = np.arange(min(counts), np.datetime64(max(counts)) + 1, dtype="datetime64[M]").astype(str).tolist()
            places = range(len(months))
            bars = axes.bar(places, [counts.get(month, 0) for month in months], color=palette.ARMS[6], width=0.72)
            axes.bar_label(bars, fontsize=7, color=QUIET, padding=1)
            axes.set_xticks(places, [MONTHS[int(month[-2:]) - 1] for month in months])
            axes.set_title(marked(name, results))
            if masked:
                shares = season.validation["invalid_share_per_month"]
                other = axes.twinx()
                other.plot(places, [shares.get(m, np.nan) for m in months], "o", color=INK, markersize=3.2)
                other.set_ylim(0, 1.04)
                other.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"] if axes is panels[-1] else [""] * 3)
                other.grid(visible=False)
                other.spines["right"].set_visible(axes is panels[-1])
                other.tick_params(colors=QUIET)
        panels[0].set_ylabel("days")
        panels[0].yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def classes(results: Results) -> Figure:
    """Shares of the scored classes in every split in use, a bar a split and season, in the classes' colours."""
    colours = palette.of_classes(len(results.classes), results.ignore)
    scored = [k for k in range(len(results.classes)) if k not in results.ignore]
    bars = [(f"{name}  {split}", counts) for name, season in results.seasons.items()
            for split, counts in used(results, season).items()]  # fmt: skip
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.6, 0.7 + 0.26 * len(bars)), layout="constrained")
        axes = figure.subplots()
        start = np.zeros(len(bars))
        totals = np.array([max(sum(counts.get(results.classes[k], 0) for k in scored), 1) for _, counts in bars])
        for k in scored:
            shares = np.array([counts.get(results.classes[k], 0) for _, counts in bars]) / totals
            if shares.any():
                axes.barh(range(len(bars)), shares, left=start, color=colours[k], label=results.classes[k], height=0.7)
            start = start + shares
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        figure.legend(
            loc="outside upper left", ncols=5, fontsize=8, handlelength=1, title=marked("", results).strip(" —")
        )
    return figure
