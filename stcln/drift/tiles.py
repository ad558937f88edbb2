"""Which tiles stand for a season, where looking at all would take hours."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from stcln.model.compute import stream_seed

MOST = 64  # tiles: the median of so many is known to about a fifth of their spread
T = TypeVar("T")


def some(tiles: Sequence[T], season: str, seed: int) -> list[T]:
    """At most `MOST` of a season's tiles, the same ones for the same seed, in their order."""
    order = np.random.default_rng(stream_seed(seed, "drift", season)).permutation(len(tiles))
    return [tiles[i] for i in sorted(order[:MOST])]
