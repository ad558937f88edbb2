"""Dropout at a fraction of its usual cost on a CPU, where drawing a float for each element takes longer than the layer.

Each 64-bit draw of torch's global generator decides on four elements, and what is dropped is written in place. A CUDA
device draws as fast as it multiplies: there torch's own dropout is used.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 1 << 16  # a probability is rounded to one of so many


def drawn(shape: Sequence[int], p: float) -> Tensor:
    """Draw what to drop, on the CPU, from torch's global generator.

    Args:
        shape: Of the result.
        p: Probability of each element by itself, kept to 1 / 65,536.

    Returns:
        bool of that shape, true = DROPPED.
    """
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    return words.view(torch.int16)[:count].view(*shape) < round(p * LEVELS) - LEVELS // 2


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dropped: Tensor, p: float) -> Tensor:
        ctx.mark_dirty(values)
        ctx.save_for_backward(dropped)
        ctx.scale = 1 / (1 - p)
        return values.masked_fill_(dropped, 0.0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (dropped,) = ctx.saved_tensors
        return grads[0].masked_fill(dropped, 0.0).mul_(ctx.scale), None, None


class _RectifiedDropped(torch.autograd.Function):
    """Keeps nothing but its result: it is positive where it was neither dropped nor negative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dropped: Tensor, p: float) -> Tensor:
        ctx.mark_dirty(values)
        ctx.scale = 1 / (1 - p)
        result = values.masked_fill_(dropped, 0.0).relu_().mul_(ctx.scale)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], result, 0).mul_(ctx.scale), None, None


def drop(values: Tensor, p: float) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p); `values` may be overwritten."""
    if p == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    result: Tensor = _Dropped.apply(values, drawn(values.shape, p), p)  # type: ignore[no-untyped-call]
    return result


def rectify_and_drop(values: Tensor, p: float) -> Tensor:
    """ReLU, then `drop`; `values` may be overwritten."""
    if p == 0 or values.device.type != "cpu":
        return drop(F.relu(values), p)
    result: Tensor = _RectifiedDropped.apply(values, drawn(values.shape, p), p)  # type: ignore[no-untyped-call]
    return result
