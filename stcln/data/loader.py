"""Batches for training: read, cropped, cut, turned and normalised. All draws are a function of (seed, epoch, step).

Who makes them ahead of time, and where they are sent, is `training.feed`'s business.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stcln.data.lengths import choose
from stcln.data.samples import Sample
from stcln.data.series import Series
from stcln.data.tile import VOID
from stcln.study import Length, Method

ORDER, DRAW = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """A batch; shorter series are padded at the end to the longest.

    Attributes:
        images: float32 [B,T,C,H,W], normalised; 0 on padded dates.
        reflectance: int16 [B,T,C,H,W], x 10,000; 0 on padded dates.
        positions: int64 [B,T]; 0 on padded dates.
        valid: bool [B,T,H,W]; false on padded dates (`padding: attended`: true).
        labels: int64 [B,H,W]; 255 = no label.
        tiles: Tile id of each sample of the whole batch.
        first: Which of those the first sample here is, where several processes share a batch.
        blank: There was no sample left for this process: the one here has nothing valid, nothing labelled.
    """

    images: Tensor
    reflectance: Tensor
    positions: Tensor
    valid: Tensor
    labels: Tensor
    tiles: tuple[str, ...]
    first: int = 0
    blank: bool = False

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; without waiting, where it is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in memory that a CUDA device copies from by itself."""
        return self._each(Tensor.pin_memory)

    def part(self, samples: slice) -> "Batch":
        """Some of its samples, padded as the whole is."""
        return self._each(lambda tensor: tensor[samples])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class Drawn:
    """A sample and what was drawn for it: indices of its dates (None: all), corner of its window, symmetry."""

    sample: Sample
    dates: NDArray[np.intp] | None
    corner: tuple[int, int]
    turn: int

    def __len__(self) -> int:
        return len(self.sample.dates if self.dates is None else self.dates)

    def read(self) -> Series:
        """The window, turned."""
        window = self.sample.read(self.dates, self.corner)
        if not self.turn:
            return window
        reflectance, valid, labels = (_turned(a, self.turn) for a in (window.reflectance, window.valid, window.labels))
        return replace(window, reflectance=reflectance, valid=valid, labels=labels)


@dataclass(frozen=True)
class Loader:
    """An iterable of batches an epoch.

    Attributes:
        windows: The samples, all of one size and one set of bands.
        size: Samples in a batch; the last batch may be smaller.
        mean: float32 [C], reflectance x 10,000.
        std: float32 [C].
        method: Positions, padding and random dates as the study wants them.
        seed: Of the order and of every draw.
        training: Shuffle, and draw random dates.
        length: A rule still to be applied at every draw; None: the samples have the dates they need.
        augment: Flips and quarter turns, drawn for every sample.
        share: (rank, size): which process of how many this one is. All is drawn for the whole batch, and of every
            batch each process reads its share.
    """

    windows: Sequence[Sample]
    size: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    method: Method
    seed: int
    training: bool = False
    length: Length | None = None
    augment: bool = False
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return -(-len(self.windows) // self.size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        for step in range(len(self)):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int, attempt: int = 0) -> Batch:
        """One batch; `attempt` > 0 draws other samples in its place."""
        order: NDArray[np.intp] = np.arange(len(self.windows))
        if self.training:
            order = _shuffled(len(self.windows), (ORDER, self.seed, epoch, *((step, attempt) if attempt else ())))
        start = 0 if attempt else step * self.size
        rng = np.random.default_rng((DRAW, self.seed, epoch, step, attempt))
        return self._collate([self._draw(self.windows[i], rng) for i in order[start : start + self.size]])

    def _draw(self, sample: Sample, rng: np.random.Generator) -> Drawn:
        kept = None
        if self.length is not None:
            drawn = rng if self.training or self.method.dates == "redrawn" else None
            kept = choose(sample.dates, self.length, sample.season, drawn)
        row, column = (int(rng.integers(room + 1)) if room else 0 for room in sample.room)
        return Drawn(sample, kept, (row, column), int(rng.integers(8)) if self.augment else 0)

    def _collate(self, drawn: Sequence[Drawn]) -> Batch:
        """The batch of this process, padded as the whole one is."""
        rank, of = self.share
        first, end = (-(-len(drawn) * place // of) for place in (rank, rank + 1))
        windows = [one.read() for one in drawn[first:end]]
        B, T, C = max(len(windows), 1), max(map(len, drawn)), len(self.mean)
        H, W = drawn[0].sample.labels.shape
        reflectance, images = np.empty((B, T, C, H, W), np.int16), np.empty((B, T, C, H, W), np.float32)
        positions, valid = np.zeros((B, T), np.int64), np.empty((B, T, H, W), bool)
        labels = np.empty((B, H, W), np.int64)
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        for b, window in enumerate(windows):
            t = len(window.dates)
            reflectance[b, :t], valid[b, :t], labels[b] = window.reflectance, window.valid, window.labels
            positions[b, :t] = window.positions(self.method)
            np.subtract(reflectance[b, :t], mean, out=images[b, :t])
            np.divide(images[b, :t], std, out=images[b, :t])
            reflectance[b, t:], images[b, t:], valid[b, t:] = 0, 0, self.method.padding == "attended"
        if not windows:
            reflectance[:], images[:], valid[:], labels[:] = 0, 0, False, VOID
        return Batch(
            torch.from_numpy(images), torch.from_numpy(reflectance), torch.from_numpy(positions),
            torch.from_numpy(valid), torch.from_numpy(labels), tuple(one.sample.tile for one in drawn),
            first if windows else 0, not windows,
        )  # fmt: skip


@lru_cache(maxsize=4)
def _shuffled(count: int, stream: tuple[int, ...]) -> NDArray[np.intp]:
    """An order of so many samples; that of an epoch is drawn once for all its steps."""
    return np.random.default_rng(stream).permutation(count)


def _turned(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """One of the eight symmetries of the square over the last two axes."""
    array = np.rot90(array, turn % 4, axes=(-2, -1))
    return array[..., ::-1] if turn >= 4 else array
