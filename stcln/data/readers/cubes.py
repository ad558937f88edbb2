"""A season of a directory of data cubes, cut into tiles that lie on one grid of the map's coordinates."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from stcln.data.readers.blocks import group
from stcln.data.readers.cube import NEAR, Cube, Window, paths
from stcln.data.readers.reading import Findings, band_indices, class_table, tidy, to_classes
from stcln.data.tile import VOID, Tile
from stcln.errors import BadInput
from stcln.study import Dataset

SPLITS = ("train", "train", "validation", "test")
"""Split of a tile by (row + 2 column) mod 4 on the map's grid: every square of 2 x 2 tiles has two, one and one."""

_Read = tuple[Window, NDArray[Any]]  # as stored: images, and raw labels [H,W]


class Cubes:
    """A season of a directory of cubes; a `Reader`.

    The cube is cut into squares of `dataset.tile` pixels from its north-west corner. A tile's name and split come from
    where its south-west corner lies on a grid of such squares from the origin of the map's coordinates, so the same
    ground has the same name and split in every season; cubes that overlap on shifted grids are refused. What is left at
    the east and south edge is not read and counted. Labels nearer than `dataset.buffer` pixels to a square of another
    split, whether the cube has that square or not, become 255.

    The block of tiles that share chunks of the file is read once, for the tiles asked for one after another.

    Args:
        root: The directory of cubes, on a disk or in a bucket.
        dataset: The study's.
        season: The year.

    Attributes:
        batches: `ids` by block: one process reads those of a batch in turn.

    Raises:
        BadInput: No cube, or more than one, is of this season, or one is not as it should be.
    """

    def __init__(self, root: Path | UPath, dataset: Dataset, season: str) -> None:
        cubes, broken = _opened(root)
        mine = [cube for cube in cubes if cube.season == season]
        if not mine and broken:
            raise broken[0]
        if len(mine) != 1:
            problem = f"{len(mine)} cubes of season {season} among {[cube.path.name for cube in cubes]}"
            raise BadInput(
                root, problem, "keep one .nc or .zarr a season, its attribute `season` or name telling the year"
            )
        self.cube, self.start, self.side = mine[0], dataset.start(season), dataset.tile
        self.sources: Sequence[Path | UPath] = (mine[0].path,)
        _check_grids(mine[0], cubes, self.side)
        self.buffer = _buffer(dataset)
        self.picked = band_indices(str(self.cube.path), self.cube.bands, dataset.bands)
        self.bands = tuple(self.cube.bands[i] for i in self.picked)
        self.classes, self.table = class_table(f"{self.cube.path}, flag_meanings", self.cube.flags, dataset.classes)
        H, W = self.cube.shape
        if self.side > min(H, W):
            problem = f"it has {H} x {W} pixels, dataset.tile is {self.side}"
            raise BadInput(self.cube.path, problem, "lower dataset.tile")
        places = itertools.product(range(0, H - self.side + 1, self.side), range(0, W - self.side + 1, self.side))
        self.corners = {"n{}e{}".format(*self._cell(*place)): place for place in places}
        self.ids: Sequence[str] = list(self.corners)
        self.batches = group(self.corners, self.side, self.cube.variables(self.picked), self.cube.south_up)
        self.batch_of = {name: at for at, names in enumerate(self.batches) for name in names}
        self.block: _Block | None = None
        self.absent: Mapping[str, Sequence[str]] = {}
        self.unlisted: Mapping[str, Sequence[str]] = {}
        self.findings = Findings()
        rest = H * W - len(self.ids) * self.side**2
        self.findings.add("pixels at the east and south edge that fill no tile, left out", self.cube.path.name, rest)

    def read(self, tile: str) -> Tile:
        """Read one tile.

        Raises:
            BadInput: A chunk is broken, a label is without flag, or no date is in the season.
        """
        row, column = self.corners[tile]
        where, size = f"{self.cube.path}, tile {tile}", self.cube.resolution
        window, raw = self._window(tile)
        remedy = "give it a flag_value and a flag_meaning"
        labels = self._buffered(tile, to_classes(where, raw, self.table, remedy))
        series = (self.cube.dates, *self.cube.decode(window, tile, self.findings))
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        transform = (size, 0.0, self.cube.left + column * size, 0.0, -size, self.cube.top - row * size)
        split = _split(*self._cell(row, column))
        return Tile(tile, split, reflectance, dates, valid, labels, self.cube.crs, transform)

    def _window(self, tile: str) -> _Read:
        """The tile as stored: of its block, or alone where the block has a broken chunk."""
        row, column = self.corners[tile]
        if self.block is None or self.block.number != self.batch_of[tile]:
            self.block = None  # two blocks are never held at once
            self.block = self._load(self.batch_of[tile])
        if self.block.read is None:
            return self._rectangle(slice(row, row + self.side), slice(column, column + self.side))
        top, left = row - self.block.corner[0], column - self.block.corner[1]
        window, raw = self.block.read
        rows, columns = slice(top, top + self.side), slice(left, left + self.side)
        return window.part(rows, columns), raw[rows, columns]

    def _load(self, number: int) -> "_Block":
        rows, columns = zip(*(self.corners[name] for name in self.batches[number]), strict=True)
        extent = slice(min(rows), max(rows) + self.side), slice(min(columns), max(columns) + self.side)
        try:
            read = self._rectangle(*extent)
        except BadInput:
            read = None
        return _Block(number, (min(rows), min(columns)), read)

    def _rectangle(self, rows: slice, columns: slice) -> _Read:
        return self.cube.load(rows, columns, self.picked), self.cube.labels(rows, columns)

    def _buffered(self, tile: str, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The labels without those in the buffer to any of the eight squares around that has another split."""
        north, east = self._cell(*self.corners[tile])
        taken = np.zeros(labels.shape, bool)
        edge = {1: slice(None, self.buffer), 0: slice(None), -1: slice(self.side - self.buffer, None)}
        for up, right in itertools.product((-1, 0, 1), repeat=2):
            if _split(north + up, east + right) != _split(north, east):
                taken[edge[up], edge[-right]] = True
        self.findings.add("pixels in the buffer to another split, without label", tile, int(taken.sum()))
        return np.where(taken, VOID, labels)

    def _cell(self, row: int, column: int) -> tuple[int, int]:
        """Row and column, on the map's grid, of the tile whose north-west pixel is (row, column)."""
        size, ground = self.cube.resolution, self.side * self.cube.resolution
        south, west = self.cube.top - (row + self.side) * size, self.cube.left + column * size
        return int(np.floor(south / ground + NEAR)), int(np.floor(west / ground + NEAR))


@dataclass(frozen=True)
class _Block:
    """The block of tiles that was read last.

    Attributes:
        number: Index into `batches`.
        corner: Row and column of its north-west pixel.
        read: What was read; None where a chunk is broken.
    """

    number: int
    corner: tuple[int, int]
    read: _Read | None


def _opened(root: Path | UPath) -> tuple[list[Cube], list[BadInput]]:
    """The cubes in a directory, and what is wrong with others: one that is still arriving is in no other's way."""
    cubes, broken = [], []
    for path in paths(root):
        try:
            cubes.append(Cube(path))
        except BadInput as error:
            broken.append(error)
    return cubes, broken


def _split(north: int, east: int) -> str:
    return SPLITS[(north + 2 * east) % 4]


def _buffer(dataset: Dataset) -> int:
    if 2 * dataset.buffer >= dataset.tile:
        problem = f"{dataset.buffer} pixels on both sides leave nothing of a tile of {dataset.tile}"
        raise BadInput("params.yaml, field dataset.buffer", problem, "make it smaller, or dataset.tile larger")
    return dataset.buffer


def _check_grids(cube: Cube, cubes: list[Cube], side: int) -> None:
    """Refuse cubes that overlap but whose tiles do not lie on one another."""
    left, bottom, right, top = _bounds(cube)
    for other in cubes:
        west, south, east, north = _bounds(other)
        if other.crs != cube.crs or west >= right or east <= left or south >= top or north <= bottom:
            continue
        shifts = [(west - left) / cube.resolution % side, (north - top) / cube.resolution % side]
        if other.resolution != cube.resolution or any(min(s, side - s) > NEAR * side for s in shifts):
            problem = f"overlaps {other.path.name}, whose tiles of {side} pixels are shifted by {shifts} pixels"
            raise BadInput(cube.path, problem, "crop both to the same corner, or to corners whole tiles apart")


def _bounds(cube: Cube) -> tuple[float, float, float, float]:
    H, W = cube.shape
    return cube.left, cube.top - H * cube.resolution, cube.left + W * cube.resolution, cube.top
