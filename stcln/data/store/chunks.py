"""Windows of a store's sharded arrays, chunk by chunk: what Zarr reads, without its overhead for each small read.

The layout is Zarr's own: a shard is its chunks, each blosc with its CRC-32C behind it, and at the end an index with the
(offset, length) of each and a CRC-32C. A shard's index is read once, and of a window only the chunks that it touches.
"""

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from stcln.data.store.arrays import ABSENT

Range = tuple[str, int, int]
"""File of a store, its first byte, the byte behind the last."""
Window = tuple[int, int, int]
"""Row, column, side in pixels."""
Piece = tuple[Range | None, tuple[Any, ...], tuple[Any, ...]]
"""Where a chunk lies, if it was written; where it goes in what is read; what of it goes there."""
Bytes = NDArray[np.uint8]
CRC_BYTES = 4
CRC_OF_ALL = 0x48674BC7  # CRC-32C of any bytes with their own CRC-32C behind them


class Files(Protocol):
    """The files of a store, wherever they lie. Threads share it."""

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name inside the store."""

    def read(self, ranges: Sequence[Range]) -> list[Bytes]:
        """The bytes of some ranges."""


def joined(ranges: Iterable[Range]) -> list[list[Range]]:
    """The ranges in runs without a gap between them, each of which one request reads."""
    runs: list[list[Range]] = []
    for one in ranges:
        if runs and runs[-1][-1][0] == one[0] and runs[-1][-1][2] == one[1]:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def split(run: Sequence[Range], raw: bytes) -> list[Bytes]:
    """The parts of what was read for a run, not copied."""
    whole, first = np.frombuffer(raw, np.uint8), run[0][1]
    return [whole[start - first : end - first] for _, start, end in run]


@dataclass(frozen=True)
class Local:
    """The files of a store in a directory."""

    root: Path

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name inside the store."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.root) for name in names)
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in found}

    def read(self, ranges: Sequence[Range]) -> list[Bytes]:
        """The bytes of some ranges; fewer where a file ends before. A file is opened once."""
        found: list[Bytes] = []
        for name, same in groupby(joined(ranges), key=lambda run: run[0][0]):
            descriptor = os.open(f"{self.root}/{name}", os.O_RDONLY)
            try:
                for run in same:
                    found += split(run, os.pread(descriptor, run[-1][2] - run[0][1], run[0][1]))
            finally:
                os.close(descriptor)
        return found


class Sharded:
    """A sharded array [tile,y,x], [tile,time,y,x] or [tile,time,band,y,x]. A chunk holds one tile, a shard whole tiles.

    Args:
        files: The store's files.
        sizes: Their sizes.
        array: The array as Zarr opened it.

    Raises:
        ValueError: It is cut or coded otherwise than `arrays` describes.
    """

    def __init__(self, files: Files, sizes: dict[str, int], array: Any) -> None:
        self.files, self.sizes, self.name = files, sizes, array.path
        self.shape, self.chunk, self.dtype, self.fill = array.shape, array.chunks, array.dtype, array.fill_value
        self.shard: tuple[int, ...] = array.shards
        self.grid = tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))
        found = [codec.to_dict()["name"] for codec in array.metadata.codecs[0].codecs]
        whole = all(shard >= side for shard, side in zip(self.shard[1:], self.shape[1:], strict=True))
        if found != ["bytes", "blosc", "crc32c"] or self.chunk[0] != 1 or not whole:
            raise ValueError(f"array {self.name} has codecs {found}, chunks {self.chunk} and shards {self.shard}")
        self._own, self._indices = threading.local(), dict[str, NDArray[np.uint64]]()

    def read(self, tile: int, times: NDArray[np.intp] | None, window: Window) -> NDArray[Any]:
        """A window of a tile; what of it leaves the tile is cut off.

        Args:
            tile: Its index.
            times: Ascending indices, each once; None for an array without time.
            window: Row, column and side.

        Returns:
            [H,W], [T,H,W] or [T,C,H,W].

        Raises:
            ValueError, RuntimeError, OSError: The files are torn.
        """
        row, column, side = window
        y, x = (row, min(row + side, self.shape[-2])), (column, min(column + side, self.shape[-1]))
        lead = () if times is None else (len(times), *self.shape[2:-2])
        out = np.empty((*lead, y[1] - y[0], x[1] - x[0]), self.dtype)
        pieces = list(self._pieces(tile, times, y, x))
        blobs = iter(self.files.read([piece[0] for piece in pieces if piece[0]]))
        for known, into, part in pieces:
            out[into] = self._decoded(next(blobs))[part] if known else self.fill
        return out

    def _pieces(
        self, tile: int, times: NDArray[np.intp] | None, y: tuple[int, int], x: tuple[int, int]
    ) -> Iterator[Piece]:
        """The chunks of a window, in the order in which they lie in the file."""
        shard, index = self._places(tile)
        steps = [(0, (), ())] if times is None else [(n, (to,), (of,)) for n, to, of in _runs(times, self.chunk[1])]
        spans = _spans(*y, self.chunk[-2]), _spans(*x, self.chunk[-1])
        for (i, to_y, of_y), (j, to_x, of_x), (t, into, part) in product(*spans, steps):
            offset, length = index[t][i][j]
            known = None if offset == ABSENT else (shard, offset, offset + length)
            yield known, (*into, ..., to_y, to_x), (*part, ..., of_y, of_x)

    def _places(self, tile: int) -> tuple[str, list[list[list[tuple[int, int]]]]]:
        """The file of a tile's chunks, and their (offset, length) by time, row and column."""
        number, inside = divmod(tile, self.shard[0])
        shard = "/".join((self.name, "c", str(number), *"0" * (len(self.shape) - 1)))
        if shard not in self._indices:
            self._indices[shard] = self._index(shard)
        index: list[list[list[tuple[int, int]]]] = self._indices[shard][inside].tolist()
        return shard, index

    def _index(self, shard: str) -> NDArray[np.uint64]:
        """The (offset, length) of a file's chunks [tile,time,y,x,2]."""
        size, end = 16 * math.prod(self.grid), self.sizes.get(shard, 0)
        if end < size + CRC_BYTES:
            raise ValueError(f"file {shard} is missing or cut off")
        [raw] = self.files.read([(shard, end - size - CRC_BYTES, end)])
        return _checked(raw)[:size].view("<u8").reshape(self.grid[0], -1, *self.grid[-2:], 2)

    def _decoded(self, blob: Bytes) -> NDArray[Any]:
        """A chunk without its tile axis, in memory that this thread's next chunk overwrites."""
        if not hasattr(self._own, "chunk"):
            self._own.chunk = np.empty(self.chunk[1:], self.dtype)
        chunk: NDArray[Any] = self._own.chunk
        blosc.decompress(_checked(blob), chunk)
        return chunk


def _checked(raw: Bytes) -> Bytes:
    if google_crc32c.value(raw) != CRC_OF_ALL:
        raise ValueError("a checksum is wrong")
    return raw


def _runs(times: NDArray[np.intp], step: int) -> Iterator[tuple[int, slice, slice | NDArray[np.intp]]]:
    """Chunk, where its dates go, and which of its dates they are: a slice where they follow one another."""
    edges = range(0, int(times[-1]) + step + 1, step)
    bounds = np.searchsorted(times, edges).tolist()
    for chunk, (at, end) in enumerate(pairwise(bounds)):
        if at < end:
            inside = times[at:end] - chunk * step
            a, b = int(inside[0]), int(inside[-1]) + 1
            yield chunk, slice(at, end), slice(a, b) if b - a == len(inside) else inside


def _spans(first: int, end: int, step: int) -> list[tuple[int, slice, slice]]:
    """The same of the pixels [first, end) of an axis."""
    return [
        (chunk, slice(max(chunk * step, first) - first, min(chunk * step + step, end) - first),
         slice(max(first - chunk * step, 0), min(end - chunk * step, step)))
        for chunk in range(first // step, -(-end // step))
    ]  # fmt: skip
