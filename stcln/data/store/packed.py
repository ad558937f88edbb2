"""A tile as it lies in a season store: its chunks, coded exactly as Zarr codes them, and what the store needs to know.

Where the chunks go is `write`'s business.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from stcln.data.store.arrays import BLOCK, CHUNK_DATES, CODEC, LEVEL, parts
from stcln.data.tile import NODATA, Tile

AT_ONCE = 1 << 18  # numbers that are converted to float64, which holds their sums exactly; in the cache


@dataclass(frozen=True)
class Packed:
    """A tile ready for a store.

    Attributes:
        id, split, crs, transform: As in `Tile`.
        shape: C, H, W of its reflectance.
        dates: ISO 8601, by array: `reflectance`, `S1A`, `S1D`.
        moments: Count, sum and sum of squares of its valid pixels by band, each [C], whole numbers; by array as
            `dates`. Empty if the tile does not count in the store's statistics.
        chunks: By array, in the order y, x, time. A chunk with no date of the tile is not there.
    """

    id: str
    split: str
    crs: str
    transform: Sequence[float]
    shape: Sequence[int]
    dates: Mapping[str, Sequence[str]]
    moments: Mapping[str, Sequence[Sequence[int]]]
    chunks: Mapping[str, Sequence[bytes]]


def pack(tile: Tile, trained_on: bool) -> Packed:
    """Code a tile.

    Args:
        tile: As its reader gave it.
        trained_on: Whether its valid pixels count in the store's mean and standard deviation.
    """
    radar = {orbit: tile.radar[orbit] for orbit in sorted(tile.radar)}
    arrays: dict[str, NDArray[Any]] = {
        "label": tile.labels[None], "reflectance": tile.reflectance, "valid": tile.valid,
    }  # fmt: skip
    days = {"reflectance": tile.dates, **{orbit: one.dates for orbit, one in radar.items()}}
    moments = {}
    if trained_on:
        moments["reflectance"] = _moments(tile.reflectance, tile.valid[:, None])
        moments |= {orbit: _moments(one.values, one.values != NODATA) for orbit, one in radar.items()}
    return Packed(
        id=tile.id, split=tile.split, crs=tile.crs, transform=[float(part) for part in tile.transform],
        shape=tile.reflectance.shape[1:], dates={name: days[name].astype(str).tolist() for name in days},
        moments=moments,
        chunks={name: list(coded(values)) for name, values in arrays.items()}
        | {orbit: list(coded(one.values, NODATA)) for orbit, one in radar.items()},
    )  # fmt: skip


def coded(values: NDArray[Any], fill: int = 0) -> Iterator[bytes]:
    """The chunks of an array [T,...,H,W] in the order y, x, time; labels are an array of one date, in one chunk."""
    T, *middle, H, W = values.shape
    (rows, h), (columns, w) = parts(H), parts(W)
    dates = CHUNK_DATES if values.dtype != np.uint8 else 1
    chunk = np.empty((dates, *middle, h, w), values.dtype)
    for row, column, at in product(range(rows), range(columns), range(0, T, dates)):
        part = values[at : at + dates, ..., row * h : row * h + h, column * w : column * w + w]
        if part.shape != chunk.shape:
            chunk[...] = fill
        chunk[: len(part), ..., : part.shape[-2], : part.shape[-1]] = part
        blob: bytes = blosc.compress(chunk, CODEC.encode(), LEVEL, blosc.SHUFFLE, BLOCK)
        yield blob + google_crc32c.value(blob).to_bytes(4, "little")


def _moments(values: NDArray[np.int16], valid: NDArray[np.bool_]) -> list[list[int]]:
    """Count, sum and sum of squares by band; values [T,C,H,W], valid the same or [T,1,H,W]."""
    T, C, H, W = values.shape
    count, sums, squares = (np.zeros(C, np.int64) for _ in range(3))
    step = max(1, AT_ONCE // (C * H * W))
    for at in range(0, T, step):
        seen = valid[at : at + step]
        part = values[at : at + step].astype(np.float64)
        part = (part if seen.all() else part * seen).reshape(len(part), C, -1)
        count += seen.sum(axis=(0, 2, 3))  # the same for every optical band
        sums += part.sum(axis=2).sum(axis=0).astype(np.int64)
        squares += np.einsum("tcp,tcp->tc", part, part).astype(np.int64).sum(axis=0)
    return [count.tolist(), sums.tolist(), squares.tolist()]
