"""Which pixels are labelled: classes out of the loss, the share of an arm, and folds inside that budget."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stcln.data.samples import Sample
from stcln.data.tile import VOID
from stcln.errors import BadInput


def labelled(windows: Sequence[Sample]) -> list[Sample]:
    """The windows that have a label at all; the others would add nothing to a loss."""
    return [w for w in windows if (w.labels != VOID).any()]


def scored(windows: Sequence[Sample], ignore: Sequence[int]) -> list[Sample]:
    """The windows with the labels of ignored classes set to 255."""
    return [replace(w, labels=np.where(np.isin(w.labels, ignore), VOID, w.labels).astype(np.uint8)) for w in windows]


def count(windows: Sequence[Sample], classes: int) -> NDArray[np.int64]:
    """Labelled pixels [K] by class."""
    return sum((np.bincount(w.labels.ravel(), minlength=VOID + 1) for w in windows), np.zeros(VOID + 1, int))[:classes]


def share(windows: Sequence[Sample], part: float, seed: int) -> list[Sample]:
    """Keep a share of the labelled pixels, stratified by class and by tile.

    Of a class with n labelled pixels exactly round(part x n) are kept, at least one, spread over the tiles in
    proportion. For one seed a smaller share lies inside a larger one.

    Args:
        windows: Windows with labels; 255 = no label.
        part: The share, in (0, 1].
        seed: Of the choice.
    """
    flat = np.concatenate([w.labels.ravel() for w in windows])
    tiles = np.unique([w.tile for w in windows], return_inverse=True)[1]
    tile = np.repeat(tiles, [w.labels.size for w in windows])
    chosen = np.full(flat.shape, VOID, np.uint8)
    for label in np.unique(flat[flat != VOID]):
        pixels = np.flatnonzero(flat == label)
        first = _spread(tile[pixels], np.random.default_rng((seed, int(label))))[: max(1, round(part * len(pixels)))]
        chosen[pixels[first]] = label
    ends = np.cumsum([w.labels.size for w in windows])[:-1]
    parts = zip(windows, np.split(chosen, ends), strict=True)
    return [replace(w, labels=labels.reshape(w.labels.shape)) for w, labels in parts]


def _spread(groups: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """An order of which every beginning holds each group in proportion: at (rank + u) / n, u uniform for each group."""
    place = np.empty(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        place[members] = (rng.permutation(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def fold(windows: Sequence[Sample], folds: int, which: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Hold one k-th of the tiles back: (training windows, held-back windows). Tiles are whole: neighbours are alike.

    Raises:
        BadInput: There are fewer labelled tiles than folds, or one fold.
    """
    tiles = sorted({w.tile for w in windows if (w.labels != VOID).any()})
    if not 1 < folds <= len(tiles):
        raise BadInput(
            "params.yaml, field finetune.folds", f"{folds} folds of {len(tiles)} labelled tiles",
            "give 2 folds to as many as there are tiles, or 0 to select on the validation tiles",
        )  # fmt: skip
    order = np.random.default_rng((seed, folds)).permutation(len(tiles))
    held = {tiles[i] for i in order[which % folds :: folds]}
    return [w for w in windows if w.tile not in held], [w for w in windows if w.tile in held]
