"""Batches for training: windows in memory; their order and every draw are a pure function of (seed, epoch, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stcln.data.series import Series
from stcln.data.tile import VOID
from stcln.study import Length, Method

ORDER, DRAW = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """A batch; shorter series are padded at the end to the longest.

    Attributes:
        images: float32 [B,T,C,H,W], normalised; 0 on padded dates.
        reflectance: float32 [B,T,C,H,W], x 10,000.
        positions: int64 [B,T]; 0 on padded dates.
        valid: bool [B,T,H,W]; false on padded dates (`padding: attended`: true).
        labels: int64 [B,H,W]; 255 = no label.
        tiles: Tile id of each sample.
    """

    images: Tensor
    reflectance: Tensor
    positions: Tensor
    valid: Tensor
    labels: Tensor
    tiles: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tiles"}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


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
        length: A rule still to be applied at every draw; None: the windows are cut already.
        augment: Flips and quarter turns, drawn for every sample.
    """

    windows: Sequence[Series]
    size: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    method: Method
    seed: int
    training: bool = False
    length: Length | None = None
    augment: bool = False

    def __len__(self) -> int:
        return -(-len(self.windows) // self.size)

    @cached_property
    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, shaped to broadcast over [B,T,C,H,W]."""
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        for step in range(len(self)):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int, attempt: int = 0) -> Batch:
        """One batch; `attempt` > 0 draws other samples in its place."""
        order = np.arange(len(self.windows))
        if self.training:
            stream = (ORDER, self.seed, epoch, *((step, attempt) if attempt else ()))
            order = np.random.default_rng(stream).permutation(order)
        start = 0 if attempt else step * self.size
        rng = np.random.default_rng((DRAW, self.seed, epoch, step, attempt))
        return self._collate([self._draw(self.windows[i], rng) for i in order[start : start + self.size]])

    def _draw(self, window: Series, rng: np.random.Generator) -> Series:
        if self.length is not None:
            window = window.cut(self.length, rng if self.training or self.method.dates == "redrawn" else None)
        if not self.augment:
            return window
        turn = int(rng.integers(8))
        reflectance, valid, labels = (_turned(a, turn) for a in (window.reflectance, window.valid, window.labels))
        return replace(window, reflectance=reflectance, valid=valid, labels=labels)

    def _collate(self, windows: Sequence[Series]) -> Batch:
        B, T = len(windows), max(len(window.dates) for window in windows)
        _, C, H, W = windows[0].reflectance.shape
        raw = np.zeros((B, T, C, H, W), np.int16)
        positions, real = np.zeros((B, T), np.int64), np.zeros((B, T), bool)
        valid = np.full((B, T, H, W), self.method.padding == "attended")
        labels = np.full((B, H, W), VOID, np.int64)
        for b, window in enumerate(windows):
            t = len(window.dates)
            raw[b, :t], valid[b, :t], labels[b] = window.reflectance, window.valid, window.labels
            positions[b, :t], real[b, :t] = window.positions(self.method), True
        reflectance = torch.from_numpy(raw).float()
        images = (reflectance - self.scale[0]) / self.scale[1]
        if not real.all():
            images *= torch.from_numpy(real)[:, :, None, None, None]
        tiles = tuple(window.tile for window in windows)
        where, seen, truth = (torch.from_numpy(array) for array in (positions, valid, labels))
        return Batch(images, reflectance, where, seen, truth, tiles)


def _turned(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """One of the eight symmetries of the square over the last two axes."""
    array = np.rot90(array, turn % 4, axes=(-2, -1))
    return array[..., ::-1] if turn >= 4 else array
