"""Small pictures for metadata, inline: a PNG in a Markdown link, so that the UI shows it without a file server."""

import base64
import io
from collections.abc import Mapping, Sequence

import dagster as dg
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stcln.palette import of_classes, rgb

DPI = 80


def curves(series: Mapping[str, Sequence[float]], ylabel: str) -> dg.MarkdownMetadataValue:
    """Lines by name, over epochs."""
    figure = Figure(figsize=(5, 2.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linewidth=1.2)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return inline(figure, ylabel)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> dg.MarkdownMetadataValue:
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
    return inline(figure, "confusion matrix")


def panels(images: Mapping[str, NDArray[np.uint8]], classes: int) -> dg.MarkdownMetadataValue:
    """Pictures side by side: [H,W,3] as they are, [H,W] as class maps (255 white)."""
    figure = Figure(figsize=(1.9 * len(images), 2.1), dpi=DPI, layout="constrained")
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[:classes] = [rgb(colour) for colour in of_classes(classes)]
    for axes, (name, image) in zip(np.atleast_1d(figure.subplots(1, len(images))), images.items(), strict=True):
        axes.imshow(table[image] if image.ndim == 2 else image, interpolation="nearest")
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    return inline(figure, ", ".join(images))


def inline(figure: Figure, what: str) -> dg.MarkdownMetadataValue:
    """A figure as Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return dg.MetadataValue.md(f"![{what}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")
