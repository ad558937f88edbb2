"""Self-attention along the dates of every pixel, with dropout of its weights.

torch has no fused kernel on a CPU that drops attention weights; its plain one is slow for many short series. The one
here keeps a copy of queries, keys and values by head; backward makes the weights, and what was dropped, again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stcln.model.dropout import drawn, new_seed


def precise(values: Tensor) -> Tensor:
    """In float32, or float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def attend(packed: Tensor, heads: int, seen: Tensor | None, p: float) -> Tensor:
    """Multi-head attention over the dates of each pixel; nobody looks at a date that `seen` leaves out.

    Args:
        packed: Queries, keys and values [N,T,3D].
        heads: h.
        seen: bool [N,T], at least one date for every pixel; None: all.
        p: Dropout of the weights; 0: none.

    Returns:
        [N,T,D].
    """
    N, T, D = packed.shape[0], packed.shape[1], packed.shape[2] // 3
    split = packed.view(N, T, 3, heads, D // heads)
    if p and packed.device.type == "cpu":
        result: Tensor = _Attention.apply(split, seen, p)  # type: ignore[no-untyped-call]
        return result
    query, key, value = split.permute(2, 0, 3, 1, 4)
    mask = None if seen is None else seen[:, None, None, :]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
    return mixed.transpose(1, 2).flatten(2)


class _Attention(torch.autograd.Function):
    """[N,T,3,h,E] -> [N,T,hE]: softmax(Q K^T / sqrt(E)), dropped and scaled, times V."""

    @staticmethod
    def forward(ctx: Any, split: Tensor, seen: Tensor | None, p: float) -> Tensor:
        N, T, _, h, _ = split.shape
        query, key, value = _by_head(split)
        seed = new_seed()
        with torch.autocast("cpu", enabled=False):
            weights = _weights(query, key, seen)
            weights.masked_fill_(drawn(weights.shape, p, seed), 0.0)
            mixed = torch.bmm(weights, value).mul_(1 / (1 - p))
        ctx.p, ctx.seed = p, seed
        ctx.save_for_backward(query, key, value, seen)
        return _by_date(mixed, split.dtype, N, T, h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        query, key, value, seen = ctx.saved_tensors
        weights = _weights(query, key, seen)
        dropped = drawn(weights.shape, ctx.p, ctx.seed)
        (N, T, D), E = grads[0].shape, query.shape[-1]
        (given,) = _by_head(grads[0].view(N, T, 1, D // E, E))
        given.mul_(1 / (1 - ctx.p))
        slope = torch.bmm(given, value.transpose(1, 2)).masked_fill_(dropped, 0.0)
        slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype).mul_(E**-0.5)
        back = grads[0].new_empty(N, T, 3, D // E, E)
        by_head = back.permute(2, 0, 3, 1, 4)
        for which, gradient in enumerate(
            (
                torch.bmm(slope, key),
                torch.bmm(slope.transpose(1, 2), query),
                torch.bmm(weights.masked_fill_(dropped, 0.0).transpose(1, 2), given),
            )
        ):
            by_head[which].copy_(gradient.view(N, D // E, T, E))
        return back, None, None


def _weights(query: Tensor, key: Tensor, seen: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(E)) [Nh,T,T] of [Nh,T,E] and seen [N,T]."""
    weights = torch.bmm(query, key.transpose(1, 2)).mul_(query.shape[-1] ** -0.5)
    if seen is not None:
        weights.view(len(seen), -1, *weights.shape[1:]).masked_fill_(~seen[:, None, None, :], -torch.inf)
    return torch.softmax(weights, -1, out=weights)


def _by_head(split: Tensor) -> tuple[Tensor, ...]:
    """[N,T,n,h,E] -> n copies [Nh,T,E], `precise`."""
    N, T, n, h, E = split.shape
    dtype = torch.promote_types(split.dtype, torch.float32)
    copy = torch.empty((n, N, h, T, E), dtype=dtype).copy_(split.permute(2, 0, 3, 1, 4))
    return copy.view(n, N * h, T, E).unbind()


def _by_date(mixed: Tensor, dtype: torch.dtype, N: int, T: int, h: int) -> Tensor:
    """[Nh,T,E] -> [N,T,hE]."""
    E = mixed.shape[-1]
    result = torch.empty((N, T, h, E), dtype=dtype)
    return result.copy_(mixed.view(N, h, T, E).transpose(1, 2)).view(N, T, h * E)
