"""The windows that training draws from: their labels in memory, their images in the store until they are drawn.

A season that fits the study's budget is held in memory once it is read; the batches are the same either way.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stcln.data.lengths import choose
from stcln.data.series import Series
from stcln.data.splits import Selection
from stcln.data.store import SeasonStore
from stcln.data.store.chunks import Window
from stcln.data.tile import VOID
from stcln.study import Length, Method

GIB = 1 << 30
Images = tuple[NDArray[np.int16], NDArray[np.bool_]]
"""Reflectance int16 [T,C,H,W] and valid bool [T,H,W]."""


@dataclass(frozen=True)
class Stored:
    """The images of a square of ground, read whenever they are asked for.

    Attributes:
        store: The season.
        ground: The square.
        dates: Indices of the dates that may be asked for, [T].
        method: `clouds: seen` makes every pixel valid.
    """

    store: SeasonStore
    ground: Selection
    dates: NDArray[np.intp]
    method: Method

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        H, W = (min(side, self.ground.size) for side in self.store.size)
        return len(self.dates) * H * W * (2 * len(self.store.bands) + 1)

    def read(self, dates: NDArray[np.intp], window: Window) -> Images:
        """The images at some of the dates, of a window inside the ground."""
        row, column, side = window
        place = (self.ground.y + row, self.ground.x + column, side)
        reflectance, valid = self.store.read_images(self.ground.tile, self.dates[dates], place)
        return reflectance, np.ones_like(valid) if self.method.clouds == "seen" else valid


class Held:
    """The same images, read when they are first asked for and held in memory from then on."""

    def __init__(self, images: Stored) -> None:
        self._images, self._lock = images, threading.Lock()
        self._all: Images | None = None

    def read(self, dates: NDArray[np.intp], window: Window) -> Images:
        """The images at some of the dates, of a window inside the ground."""
        with self._lock:
            if self._all is None:
                self._all = self._images.read(np.arange(len(self._images.dates)), (0, 0, self._images.ground.size))
        reflectance, valid = self._all
        row, column, side = window
        y, x = slice(row, row + side), slice(column, column + side)
        return reflectance[dates, :, y, x], valid[dates, y, x]


@dataclass(frozen=True)
class Sample:
    """A window that training draws.

    Attributes:
        tile, season, start: As of `Series`.
        dates: datetime64[D] [T] of the length, ascending; a random length draws from them.
        labels: uint8 [H,W]; 255 = no label.
        images: Of the window, or of the ground in which it may move.
        room: Rows and columns by which it may move from the ground's top left.
    """

    tile: str
    season: str
    start: date
    dates: NDArray[np.datetime64]
    labels: NDArray[np.uint8]
    images: Stored | Held
    room: tuple[int, int] = (0, 0)

    def read(self, kept: NDArray[np.intp] | None = None, corner: tuple[int, int] = (0, 0)) -> Series:
        """The window in memory, at the dates with indices `kept` or at all, moved by `corner`."""
        kept = np.arange(len(self.dates)) if kept is None else kept
        reflectance, valid = self.images.read(kept, (*corner, max(self.labels.shape)))
        return Series(self.tile, self.season, self.start, self.dates[kept], reflectance, valid, self.labels)


def labelled(store: SeasonStore, selections: Iterable[Selection], length: Length, method: Method) -> list[Sample]:
    """Windows with their labels, at the dates of a length, evenly where it is random."""
    found = []
    for one in selections:
        images = _stored(store, one, length, method)
        labels = store.read_labels(one.tile, (one.y, one.x, one.size))
        found.append(_sample(images, labels))
    return found


def unlabelled(
    store: SeasonStore, selections: Iterable[Selection], length: Length, method: Method, *, random: bool
) -> list[Sample]:
    """Windows of which no label is read; with `random` each may lie anywhere in its tile."""
    grounds: dict[Selection, Stored] = {}
    found = []
    for one in selections:
        ground = Selection(one.tile, 0, 0, max(store.size)) if random else one
        if ground not in grounds:
            grounds[ground] = _stored(store, ground, length, method)
        labels = np.full((one.size, one.size), VOID, np.uint8)
        H, W = store.size if random else (one.size, one.size)
        found.append(replace(_sample(grounds[ground], labels), room=(H - one.size, W - one.size)))
    return found


def read_series(store: SeasonStore, selection: Selection, length: Length, method: Method) -> Series:
    """One window with its labels in memory."""
    return labelled(store, [selection], length, method)[0].read()


def held(samples: Sequence[Sample], budget: float) -> list[Sample]:
    """The samples with their images held in memory, if all of them together take at most `budget` GiB."""
    distinct = {id(one.images): one.images for one in samples if isinstance(one.images, Stored)}
    if sum(images.nbytes for images in distinct.values()) > budget * GIB:
        return list(samples)
    kept = {key: Held(images) for key, images in distinct.items()}
    return [replace(one, images=kept.get(id(one.images), one.images)) for one in samples]


def _stored(store: SeasonStore, ground: Selection, length: Length, method: Method) -> Stored:
    return Stored(store, ground, choose(store.dates(ground.tile), length, store.season), method)


def _sample(images: Stored, labels: NDArray[np.uint8]) -> Sample:
    store, tile = images.store, images.ground.tile
    return Sample(store.ids[tile], store.season, store.start, store.dates(tile)[images.dates], labels, images)
