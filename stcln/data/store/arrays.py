"""The arrays of a season store while it is written, a shard at a time, and the statistics of what passes by.

What the store is and how it is read is `store`'s.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from stcln.data.tile import VOID, Tile

CHUNK_DATES, SHARD_DATES = 16, 128
CHUNK_SIDE = 32  # largest side of a chunk, so that a window does not read a whole patch
# On real Sentinel-2: 2.1 times smaller at 450 MB/s, read at 1.6 GB/s; zstd 5 alone: 1.8 times, 150 MB/s, 1.3 GB/s.
# Blocks of 512 KiB hold a chunk whole. The checksum finds a flipped bit at reading.
COMPRESSION = (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", blocksize=1 << 19), Crc32cCodec())
SHARD_BYTES = 1 << 28  # DVC slows with the number of files, writing holds one shard in memory


class Moments:
    """Mean and standard deviation per band, from exact integer sums."""

    def __init__(self, bands: int) -> None:
        self.count, self.sums, self.squares = 0, [0] * bands, [0] * bands

    def add(self, tile: Tile) -> None:
        """Count the valid pixels of a tile."""
        self.count += int(tile.valid.sum())
        for band in range(len(self.sums)):
            values = tile.reflectance[:, band][tile.valid].astype(np.int64)
            self.sums[band] += int(values.sum())
            self.squares[band] += int((values * values).sum())

    def attributes(self) -> dict[str, Any]:
        """Attributes of a store; null where nothing was counted, as in a season that is only tested on."""
        if not self.count:
            return {"band_mean": None, "band_std": None}
        mean = [total / self.count for total in self.sums]
        variance = [total / self.count - m * m for total, m in zip(self.squares, mean, strict=True)]
        return {"band_mean": mean, "band_std": [max(v, 0.0) ** 0.5 for v in variance]}


class Arrays:
    """The arrays of a store; they grow with every batch of tiles.

    Args:
        group: The store's group, empty.
        first: A tile of the shape that all have.
        start: Day 0.
        bands: Band names.

    Attributes:
        batch: So many tiles make a shard; every call of `append` but the last is given as many.
    """

    def __init__(self, group: zarr.Group, first: Tile, start: date, bands: tuple[str, ...]) -> None:
        _, C, H, W = first.reflectance.shape
        self.group, self.start, self.bands = group, start, bands
        self.batch = max(1, SHARD_BYTES // (2 * CHUNK_DATES * 2 * C * H * W))
        self.days: list[NDArray[np.int32]] = []
        self.transforms: list[Sequence[float]] = []
        self.ids: list[str] = []
        self.splits: list[str] = []
        h, w = _chunk_side(H), _chunk_side(W)
        self.reflectance = self._grow("reflectance", "int16", (C, H, W), (C, h, w), ("time", "band", "y", "x"))
        self.valid = self._grow("valid", "bool", (H, W), (h, w), ("time", "y", "x"))
        self.label = self._grow("label", "uint8", (H, W), (h, w), ("y", "x"))

    def _grow(self, name: str, kind: str, shape: tuple[int, ...], chunk: tuple[int, ...], dims: tuple[str, ...]) -> Any:
        timed = dims[0] == "time"
        whole = tuple(-(-side // part) * part for side, part in zip(shape, chunk, strict=True))
        return self.group.create_array(
            name, dtype=kind, shape=(0, 0, *shape) if timed else (0, *shape),
            chunks=(1, CHUNK_DATES, *chunk) if timed else (1, *chunk),
            shards=(self.batch, SHARD_DATES, *whole) if timed else (self.batch, *whole),
            compressors=COMPRESSION, fill_value=0, dimension_names=("tile", *dims),
            config={"write_empty_chunks": True},  # so that a file that is gone is told from one of zeros
        )  # fmt: skip

    def append(self, tiles: Sequence[Tile]) -> None:
        """Write a batch of tiles behind those that stand."""
        at, end, T = len(self.ids), len(self.ids) + len(tiles), max(len(tile.dates) for tile in tiles)
        for array in (self.reflectance, self.valid):
            array.resize((end, max(T, array.shape[1]), *array.shape[2:]))
        self.label.resize((end, *self.label.shape[1:]))
        self.label[at:end] = np.stack([tile.labels for tile in tiles])
        for name in ("reflectance", "valid"):
            array = getattr(self, name)
            values = np.zeros((len(tiles), T, *array.shape[2:]), array.dtype)
            for row, tile in zip(values, tiles, strict=True):
                row[: len(tile.dates)] = getattr(tile, name)
            array[at:end, :T] = values
        for tile in tiles:
            self.days.append((tile.dates - np.datetime64(self.start)).astype(np.int32))
            self.transforms.append(tile.transform)
            self.ids.append(tile.id)
            self.splits.append(tile.split)

    def finish(self) -> None:
        """Write what is small: dates, transforms and names."""
        days = np.full((len(self.days), max(map(len, self.days))), -1, np.int32)
        for row, known in zip(days, self.days, strict=True):
            row[: len(known)] = known
        units = {"units": f"days since {self.start}", "calendar": "proleptic_gregorian", "_FillValue": -1}
        self._put("date", days, ("tile", "time"), -1, units)
        self._put("transform", np.array(self.transforms, np.float64), ("tile", "coefficient"))
        for name, values in (("tile", self.ids), ("split", self.splits), ("band", self.bands)):
            self._put(name, np.array(values, dtype=np.dtypes.StringDType()), ("band" if name == "band" else "tile",))
        self.reflectance.attrs.update({"units": "1", "long_name": "reflectance x 10,000", "coordinates": "split"})
        self.label.attrs.update({"long_name": "class index into class_names, 255 outside every class", "void": VOID})

    def _put(
        self, name: str, values: NDArray[Any], dims: tuple[str, ...], fill: int | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        array = self.group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=values.shape, fill_value=fill,
            dimension_names=dims, attributes=attributes, compressors=COMPRESSION,
        )  # fmt: skip
        array[...] = values


def _chunk_side(side: int) -> int:
    """The side of equal chunks, as few as may be, that are no larger than CHUNK_SIDE; the last may reach over."""
    return -(-side // -(-side // CHUNK_SIDE))
