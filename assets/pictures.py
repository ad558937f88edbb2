"""Small pictures for metadata, inline: a PNG in a Markdown link, so that the UI shows it without a file server."""

import base64
import io
from collections.abc import Collection, Mapping, Sequence

import dagster as dg
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stcln.palette import of_classes, rgb

DPI = 90
Pixels = NDArray[np.uint8]


def sheet(pictures: Mapping[str, str], simulated: bool) -> dg.MarkdownMetadataValue:
    """Pictures in Markdown under their names, which say if data are simulated; one click shows them all."""
    note = " (simulated data)" if simulated else ""
    return dg.MetadataValue.md("\n\n".join(f"**{name}{note}**\n\n{picture}" for name, picture in pictures.items()))


def curves(series: Mapping[str, Sequence[float]], ylabel: str) -> str:
    """Lines by name, over epochs."""
    figure = Figure(figsize=(5, 2.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linewidth=1.2)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return inline(figure)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """A confusion matrix, each row (a true class) as shares of its support; classes without support left out."""
    counts = np.asarray(matrix, dtype=float)
    shown = np.flatnonzero(counts.sum(0) + counts.sum(1))
    names = [classes[i] for i in shown.tolist()]
    counts = counts[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.28 * len(names)
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="predicted", ylabel="truth")
    return inline(figure)


def panels(images: Mapping[str, Pixels], classes: Sequence[str], ignore: Collection[int]) -> str:
    """Pictures side by side: [H,W,3] as they are, [H,W] as class maps (255 white), the classes in them named."""
    colours = of_classes(len(classes), ignore)
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(classes)] = [rgb(colour) for colour in colours]
    figure = Figure(figsize=(1.8 * len(images) + 1.4, 2.1), dpi=DPI, layout="constrained")
    for axes, (name, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        axes.imshow(table[image] if image.ndim == 2 else image, interpolation="nearest")
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    maps = [image.ravel() for image in images.values() if image.ndim == 2]
    seen = [index for index in np.unique(np.concatenate(maps)).tolist() if index < len(classes)]
    patches = [Patch(color=colours[index], label=classes[index]) for index in seen]
    figure.legend(handles=patches, loc="outside right center", fontsize=7, frameon=False)
    return inline(figure)


def rows(images: Mapping[str, Mapping[str, Pixels]]) -> str:
    """A named row of pictures [H,W,3] each; the columns are named alike in all."""
    columns = len(next(iter(images.values())))
    figure = Figure(figsize=(0.8 * columns + 1.3, 0.85 * len(images) + 0.2), dpi=DPI, layout="constrained")
    for line, (name, row) in zip(figure.subplots(len(images), columns, squeeze=False), images.items(), strict=True):
        for axes, (column, image) in zip(line, row.items(), strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(column if line[0].get_subplotspec().is_first_row() else "", fontsize=7)
        line[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    return inline(figure)


def inline(figure: Figure) -> str:
    """A figure as Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return embedded(buffer.getvalue())


def embedded(png: bytes) -> str:
    """A PNG as Markdown."""
    return f"![]({address(png)})"


def address(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
