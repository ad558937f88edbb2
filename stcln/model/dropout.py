"""Dropout at a fraction of its usual cost on a CPU, where drawing a float for each element takes as long as a product.

Each 64-bit draw decides on four elements, what is dropped is written in place, and backward draws the same again from
the seed. A CUDA device draws as fast as it multiplies: there torch's own dropout is used.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 1 << 16  # a probability is rounded to one of so many


def new_seed() -> int:
    """A seed for `drawn`, by torch's generator."""
    return int(torch.randint(1 << 62, ()))


def drawn(shape: Sequence[int], p: float, seed: int) -> Tensor:
    """Draw what to drop, on the CPU, by a generator ten times as fast as torch's.

    Args:
        shape: Of the result.
        p: Probability of each element by itself, kept to 1 / 65,536.
        seed: The same gives the same.

    Returns:
        bool of that shape, true = DROPPED.
    """
    count = math.prod(shape)
    source = np.random.SFC64(seed)
    words = torch.from_numpy(source.random_raw(-(-count // 4)).view(np.int16))
    return words[:count].view(*shape) < round(p * LEVELS) - LEVELS // 2


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        ctx.mark_dirty(values)
        ctx.p, ctx.seed = p, new_seed()
        return values.masked_fill_(drawn(values.shape, p, ctx.seed), 0.0).mul_(1 / (1 - p))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        dropped = drawn(grads[0].shape, ctx.p, ctx.seed)
        return grads[0].masked_fill(dropped, 0.0).mul_(1 / (1 - ctx.p)), None


class _RectifiedDropped(torch.autograd.Function):
    """Keeps nothing but its result: it is positive where it was neither dropped nor negative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        ctx.mark_dirty(values)
        ctx.scale = 1 / (1 - p)
        result = values.masked_fill_(drawn(values.shape, p, new_seed()), 0.0).relu_().mul_(ctx.scale)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], result, 0).mul_(ctx.scale), None


def drop(values: Tensor, p: float) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    Args:
        values: May be overwritten; no view of another tensor, or its gradient is copied back and forth.
        p: Probability.
    """
    if p == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    result: Tensor = _Dropped.apply(values, p)  # type: ignore[no-untyped-call]
    return result


def rectify_and_drop(values: Tensor, p: float) -> Tensor:
    """ReLU, then `drop`, of values as there."""
    if p == 0 or values.device.type != "cpu":
        return drop(F.relu(values), p)
    result: Tensor = _RectifiedDropped.apply(values, p)  # type: ignore[no-untyped-call]
    return result
