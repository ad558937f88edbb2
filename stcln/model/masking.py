"""What pre-training hides. A mask here is true where a pixel is HIDDEN, and every draw comes from a given generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stcln.errors import BadInput

Kind = Literal["pixel", "date", "batch-date"]


@dataclass(frozen=True)
class Share:
    """Some samples of a batch that several processes share: the draw is that of the whole batch.

    Attributes:
        first: Which sample of the batch the first here is.
        samples: In the whole batch.
        total: Sums of counts over the processes.
    """

    first: int
    samples: int
    total: Callable[[int, int, int], Sequence[int]]


@dataclass(frozen=True)
class Counts:
    """Pixels of one draw, a pixel being one place on one date of one sample; exact."""

    hidden: int
    """Hidden from the encoder."""
    open: int
    """That the gate let the draw hide."""
    valid: int
    """Seen by the satellite."""


def vegetation(reflectance: Tensor, bands: Sequence[str], ndvi: float = 0.2) -> Tensor:
    """Where NDVI = (B8 - B4) / (B8 + B4) exceeds `ndvi`.

    Args:
        reflectance: [...,C,H,W], any type, any scale common to both bands.
        bands: Names in the order of C; `B4` or `B04`, `B8` or `B08` are looked for.
        ndvi: Threshold.

    Returns:
        bool [...,H,W].

    Raises:
        BadInput: A band is missing.
    """
    red, near = (reflectance[..., _index(bands, number), :, :].float() for number in (4, 8))
    return (near - red) / (near + red + 1e-20) > ndvi


def _index(bands: Sequence[str], number: int) -> int:
    for name in (f"B{number}", f"B0{number}"):
        if name in bands:
            return list(bands).index(name)
    raise BadInput("dataset.bands", f"no B{number} among {list(bands)}", "keep it: the vegetation gate needs B4 and B8")


def draw(
    kind: Kind,
    ratio: float,
    vegetation: Tensor,
    valid: Tensor,
    gate: float,
    generator: torch.Generator,
    redraw: bool = True,
    share: Share | None = None,
) -> tuple[Tensor, Counts]:
    """Draw what to hide.

    Args:
        kind: `pixel`: every pixel of every date of every sample by itself; `date`: whole dates of a sample;
            `batch-date`: the same dates in the whole batch.
        ratio: Probability of a draw.
        vegetation: bool [B,T,H,W], true where green.
        valid: bool [B,T,H,W]; nothing else is hidden.
        gate: A date of a sample may be hidden only if more than this share of its valid pixels is green; 0: always.
        generator: On the CPU, so that draws are the same on every device.
        redraw: Draw again while nothing came out hidden although something may be.
        share: Which samples of a larger batch these are; None: all.

    Returns:
        hidden, bool [B,T,H,W], and the counts of the whole batch. `counts.hidden` is 0 only if the gate is shut
        everywhere (take another batch) or without `redraw`.
    """
    B, T, H, W = valid.shape
    first, samples = (share.first, share.samples) if share else (0, B)
    allowed = valid & _open(vegetation, valid, gate)[:, :, None, None]
    shape = {"pixel": (samples, T, H, W), "date": (samples, T, 1, 1), "batch-date": (1, T, 1, 1)}[kind]
    own = int(allowed.sum()), int(valid.sum())
    while True:
        chosen = torch.rand(shape, generator=generator) < ratio
        chosen = chosen if kind == "batch-date" else chosen[first : first + B]
        hidden = allowed & chosen.to(valid.device)
        counts = int(hidden.sum()), *own
        count, possible, total = share.total(*counts) if share else counts
        if count or not possible or not redraw:
            return hidden, Counts(hidden=count, open=possible, valid=total)


def _open(vegetation: Tensor, valid: Tensor, gate: float) -> Tensor:
    """The dates that may be hidden, bool [B,T]; a share of green equal to the gate is shut."""
    if gate == 0:
        return torch.ones(valid.shape[:2], dtype=torch.bool, device=valid.device)
    green = (vegetation & valid).sum(dim=(2, 3)).double()
    return green > gate * valid.sum(dim=(2, 3)).double()
