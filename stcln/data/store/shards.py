"""The files of a sharded Zarr array, written tile after tile: chunks, and behind them their index and its checksum.

A tile's chunks lie together in the order y, x, time, so that a window is few ranges of a file; Zarr allows any order.
What the chunks hold is `packed`'s business.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from stcln.data.store.arrays import ABSENT


class Shards:
    """The shards of one array. They can be read after `finish`.

    Args:
        folder: The array's directory.
        dims: Number of its dimensions.
        grid: Chunks along y and x.
        tiles: Of a shard.
    """

    def __init__(self, folder: Path, dims: int, grid: tuple[int, int], tiles: int) -> None:
        self.folder, self.dims, self.grid, self.tiles = folder, dims, grid, tiles
        self.places: list[NDArray[np.uint64]] = []  # by tile: (offset, length) of its chunks [y,x,time,2]
        self.file: IO[bytes] | None = None

    def add(self, chunks: Sequence[bytes]) -> None:
        """Write a tile's chunks, in the order y, x, time."""
        if len(self.places) % self.tiles == 0:
            self.close()
            path = self._path(len(self.places) // self.tiles)
            path.parent.mkdir(parents=True)
            self.file = path.open("wb")
        assert self.file
        lengths = np.array([len(chunk) for chunk in chunks], np.uint64)
        begin = self.file.tell() + np.cumsum(lengths) - lengths
        self.places.append(np.stack([begin, lengths], -1).astype("<u8").reshape(*self.grid, -1, 2))
        self.file.writelines(chunks)

    def finish(self) -> None:
        """Write the indices, now that the largest number of dates is known."""
        self.close()
        steps = max(1, *(place.shape[2] for place in self.places))
        for first in range(0, len(self.places), self.tiles):
            index = np.full((self.tiles, steps, *self.grid, 2), ABSENT, "<u8")
            for row, place in zip(index, self.places[first : first + self.tiles], strict=False):
                row[: place.shape[2]] = place.transpose(2, 0, 1, 3)
            raw = index.tobytes()
            with self._path(first // self.tiles).open("ab") as file:
                file.write(raw + google_crc32c.value(raw).to_bytes(4, "little"))

    def close(self) -> None:
        """Close the file that is being written."""
        if self.file:
            self.file.close()

    def _path(self, shard: int) -> Path:
        return self.folder.joinpath("c", str(shard), *["0"] * (self.dims - 1))
