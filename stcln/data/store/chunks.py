"""Windows of a store's sharded arrays, chunk by chunk: what Zarr reads, without its overhead for each small read.

The layout is Zarr's own: a shard is its chunks, each blosc with its CRC-32C behind it, and at the end an index with the
(offset, length) of each and a CRC-32C. A shard's index is read once, and of a window only the chunks that it touches.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

Range = tuple[str, int, int]
"""File of a store, its first byte, the byte behind the last."""
Window = tuple[int, int, int]
"""Row, column, side in pixels."""
Piece = tuple[tuple[int, ...], tuple[Any, ...], tuple[Any, ...]]
"""A chunk's coordinates, where it goes in what is read, and what of the chunk goes there."""
CRC_BYTES = 4
CRC_OF_ALL = 0x48674BC7  # CRC-32C of any bytes with their own CRC-32C behind them
ABSENT = 2**64 - 1  # in place of the offset of a chunk that was never written


class Files(Protocol):
    """The files of a store, wherever they lie. Threads share it."""

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name inside the store."""

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
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


def split(run: Sequence[Range], raw: bytes) -> list[bytes]:
    """The parts of what was read for a run."""
    return [raw[start - run[0][1] : end - run[0][1]] for _, start, end in run]


@dataclass(frozen=True)
class Local:
    """The files of a store in a directory."""

    root: Path

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name inside the store."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.root) for name in names)
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in found}

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of some ranges; fewer where a file ends before."""
        found: list[bytes] = []
        for run in joined(ranges):
            descriptor = os.open(f"{self.root}/{run[0][0]}", os.O_RDONLY)
            try:
                found += split(run, os.pread(descriptor, run[-1][2] - run[0][1], run[0][1]))
            finally:
                os.close(descriptor)
        return found


class Sharded:
    """A sharded array [tile,y,x], [tile,time,y,x] or [tile,time,band,y,x] whose chunks hold one tile each.

    Args:
        files: The store's files.
        sizes: Their sizes.
        array: The array as Zarr opened it.

    Raises:
        ValueError: It is coded otherwise than `arrays` codes it.
    """

    def __init__(self, files: Files, sizes: dict[str, int], array: Any) -> None:
        self.files, self.sizes, self.name = files, sizes, array.path
        self.shape, self.chunk, self.dtype, self.fill = array.shape, array.chunks, array.dtype, array.fill_value
        self.shard = array.shards
        self.grid = tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))
        found = [codec.to_dict()["name"] for codec in array.metadata.codecs[0].codecs]
        if found != ["bytes", "blosc", "crc32c"] or self.chunk[0] != 1:
            raise ValueError(f"array {self.name} has codecs {found} and chunks {list(self.chunk)}")
        self._blosc, self._own = Blosc(), threading.local()
        self._indices: dict[str, NDArray[np.uint64]] = {}

    def read(self, tile: int, times: NDArray[np.intp] | None, window: Window) -> NDArray[Any]:
        """A window of a tile; what of it leaves the tile is cut off.

        Args:
            tile: Its index.
            times: Ascending indices; None for an array without time.
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
        ranges = [self._range(chunk) for chunk, _, _ in pieces]
        blobs = iter(self.files.read([one for one in ranges if one]))
        for (_, into, part), known in zip(pieces, ranges, strict=True):
            out[into] = self._decode(next(blobs))[part] if known else self.fill
        return out

    def _pieces(
        self, tile: int, times: NDArray[np.intp] | None, y: tuple[int, int], x: tuple[int, int]
    ) -> Iterator[Piece]:
        bands = (0,) * len(self.shape[2:-2])
        steps = [((), (), ())] if times is None else [((n,), (to,), (of,)) for n, to, of in _runs(times, self.chunk[1])]
        spans = _spans(y, self.chunk[-2]), _spans(x, self.chunk[-1])
        for row, column, (when, into, part) in product(*spans, steps):  # as they lie in the file
            chunk = (tile, *when, *(bands if when else ()), row[0], column[0])
            yield chunk, (*into, ..., row[1], column[1]), (*part, ..., row[2], column[2])

    def _range(self, chunk: tuple[int, ...]) -> Range | None:
        """Where a chunk lies; None: it was never written."""
        places = [divmod(at, grid) for at, grid in zip(chunk, self.grid, strict=True)]
        shard = f"{self.name}/c/{'/'.join(str(at) for at, _ in places)}"
        offset, length = self._index(shard)[tuple(inside for _, inside in places)].tolist()
        return None if offset == ABSENT else (shard, offset, offset + length)

    def _index(self, shard: str) -> NDArray[np.uint64]:
        """The (offset, length) of every chunk of a shard [...,2]."""
        if shard not in self._indices:
            size, end = 16 * int(np.prod(self.grid)), self.sizes.get(shard, 0)
            if end < size + CRC_BYTES:
                raise ValueError(f"file {shard} is missing or cut off")
            [raw] = self.files.read([(shard, end - size - CRC_BYTES, end)])
            index = np.frombuffer(_checked(raw), "<u8", count=size // 8)
            self._indices[shard] = index.reshape(*self.grid, 2)
        return self._indices[shard]

    def _decode(self, blob: bytes) -> NDArray[Any]:
        """A chunk without its tile axis, in memory that this thread's next chunk overwrites."""
        if not hasattr(self._own, "chunk"):
            self._own.chunk = np.empty(self.chunk[1:], self.dtype)
        chunk: NDArray[Any] = self._own.chunk
        self._blosc.decode(_checked(blob), chunk)
        return chunk


def _checked(raw: bytes) -> bytes:
    if google_crc32c.value(raw) != CRC_OF_ALL:
        raise ValueError("a checksum is wrong")
    return raw


def _runs(times: NDArray[np.intp], step: int) -> Iterator[tuple[int, slice, slice | NDArray[np.intp]]]:
    """Chunk, where its dates go, and which of its dates they are: a slice where they follow one another."""
    chunks, first = np.unique(times // step, return_index=True)
    for chunk, at, end in zip(chunks.tolist(), first.tolist(), [*first[1:].tolist(), len(times)], strict=True):
        inside = times[at:end] - chunk * step
        a, b = int(inside[0]), int(inside[-1]) + 1
        yield chunk, slice(at, end), slice(a, b) if b - a == len(inside) else inside


def _spans(span: tuple[int, int], step: int) -> list[tuple[int, slice, slice]]:
    """The same of the pixels [first, end) of an axis."""
    first, end = span
    return [
        (chunk, slice(max(chunk * step, first) - first, min(chunk * step + step, end) - first),
         slice(max(first - chunk * step, 0), min(end - chunk * step, step)))
        for chunk in range(first // step, -(-end // step))
    ]  # fmt: skip
