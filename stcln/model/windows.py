"""From a tile of any size to class probabilities, in windows of the size that the network was trained on."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stcln.model.checkpoint import Card
from stcln.model.compute import Device

Predictor = Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]], NDArray[np.float32]]
"""(reflectance x 10,000 [B,T,C,H,W], positions [B,T], valid [B,T,H,W]) -> logits [B,K,H,W]."""

BATCH = 4  # windows at once
OVERLAP = 0.25  # share of a window's side that the next one covers again; benchmarks/overlap.py


def normalise(reflectance: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(reflectance - mean) / std of each band.

    Args:
        reflectance: [...,C,H,W], x 10,000.
        mean: [C].
        std: [C].

    Returns:
        float32 [...,C,H,W].
    """
    centre, scale = (
        torch.tensor(values, dtype=torch.float32, device=reflectance.device)[:, None, None] for values in (mean, std)
    )
    return (reflectance.float() - centre) / scale


def predictor(network: nn.Module, card: Card, compute: Device) -> Predictor:
    """A torch classifier as a function from arrays to arrays, normalising as its card says."""
    network.to(compute.device).eval()

    def predict(
        reflectance: NDArray[np.float32], positions: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        tensors = [torch.from_numpy(array).to(compute.device) for array in (reflectance, positions, valid)]
        with torch.inference_mode(), compute.autocast():
            logits: Tensor = network(normalise(tensors[0], card.mean, card.std), *tensors[1:])
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    return predict


def predict_tile(
    network: nn.Module | Predictor,
    card: Card,
    reflectance: NDArray[np.int16],
    valid: NDArray[np.bool_],
    positions: NDArray[np.int64],
    compute: Device,
    overlap: float = OVERLAP,
) -> NDArray[np.float32]:
    """Class probabilities of every pixel of a tile.

    Windows of `card.window` pixels overlap and are blended, each weighing most in its middle; with the card's method
    `test_window: tile` the tile is one window, at a memory cost that grows with the square of its pixels.

    Args:
        network: A torch classifier, or a function that stands in for one.
        card: Its card.
        reflectance: [T,C,H,W], x 10,000, bands in the card's order.
        valid: [T,H,W], true where the network may look.
        positions: [T], days since the season's start.
        compute: Where a torch classifier runs.
        overlap: Share of a window's side that the next one covers again, in [0, 1).

    Returns:
        [K,H,W], sums to 1 over K.
    """
    predict = predictor(network, card, compute) if isinstance(network, nn.Module) else network
    H, W = reflectance.shape[-2:]
    rows, columns, (height, width) = cover(card, H, W, overlap)
    weight = np.outer(_hill(height), _hill(width))
    total = np.zeros((len(card.classes), H, W), np.float32)
    for corners in _batches(product(rows, columns)):
        cuts = [(slice(y, y + height), slice(x, x + width)) for y, x in corners]
        images = np.stack([reflectance[..., y, x] for y, x in cuts]).astype(np.float32)
        seen = np.stack([valid[..., y, x] for y, x in cuts])
        logits = predict(images, np.tile(positions.astype(np.int64), (len(cuts), 1)), seen)
        for (y, x), scores in zip(cuts, _softmax(logits), strict=True):
            total[:, y, x] += weight * scores
    result: NDArray[np.float32] = total / total.sum(axis=0)
    return result


def cover(card: Card, H: int, W: int, overlap: float = OVERLAP) -> tuple[list[int], list[int], tuple[int, int]]:
    """The windows of a tile of H x W pixels: rows and columns at which they begin, and their height and width."""
    side = max(H, W) if card.method.get("test_window") == "tile" else card.window
    return starts(H, side, overlap), starts(W, side, overlap), (min(H, side), min(W, side))


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows begin along an axis; the last ends at its end."""
    if length <= side:
        return [0]
    return [*range(0, length - side, stride(side, overlap)), length - side]


def stride(side: int, overlap: float = OVERLAP) -> int:
    """Pixels from one window to the next."""
    return max(1, round(side * (1 - overlap)))


def _hill(side: int) -> NDArray[np.float32]:
    """Weights [side] that rise from the edges to the middle and are nowhere 0."""
    steps = np.arange(1, side + 1, dtype=np.float32)
    return (np.minimum(steps, steps[::-1]) / ((side + 1) // 2)).astype(np.float32)


def _batches(corners: Iterator[Any]) -> Iterator[list[tuple[int, int]]]:
    while batch := list(islice(corners, BATCH)):
        yield batch


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over K of [B,K,H,W]."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return result
