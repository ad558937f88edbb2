"""A season of a directory of data cubes, cut into tiles that lie on one grid of the map's coordinates."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stcln.data.readers.cube import NEAR, Cube, find
from stcln.data.readers.reading import Findings, band_indices, class_table, tidy, to_classes
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.study import Dataset

SPLITS = ("train", "train", "validation", "test")
"""Split of a tile by (row + 2 column) mod 4 on the map's grid: every square of 2 x 2 tiles has two, one and one."""


class Cubes:
    """A season of a directory of cubes; a `Reader`.

    The cube is cut into squares of `dataset.tile` pixels from its north-west corner. A tile's name and split come from
    where its south-west corner lies on a grid of such squares from the origin of the map's coordinates, so the same
    ground has the same name and split in every season; cubes that overlap on shifted grids are refused. What is left at
    the east and south edge is not read and counted.

    Args:
        root: The directory of cubes.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: No cube, or more than one, is of this season, or one is not as it should be.
    """

    def __init__(self, root: Path, dataset: Dataset, season: str) -> None:
        cubes = find(root)
        mine = [cube for cube in cubes if cube.season == season]
        if len(mine) != 1:
            problem = f"{len(mine)} cubes of season {season} among {[cube.path.name for cube in cubes]}"
            raise BadInput(
                root, problem, "keep one .nc or .zarr a season, its attribute `season` or name telling the year"
            )
        self.cube, self.start = mine[0], dataset.start(season)
        self.sources: Sequence[Path] = (mine[0].path,)
        _check_grids(mine[0], cubes, dataset.tile)
        self.picked = band_indices(str(self.cube.path), self.cube.bands, dataset.bands)
        self.bands = tuple(self.cube.bands[i] for i in self.picked)
        self.classes, self.table = class_table(f"{self.cube.path}, flag_meanings", self.cube.flags, dataset.classes)
        self.side, (H, W) = dataset.tile, self.cube.shape
        places = itertools.product(range(0, H - self.side + 1, self.side), range(0, W - self.side + 1, self.side))
        self.corners = {"n{}e{}".format(*self._cell(*place)): place for place in places}
        self.ids: Sequence[str] = list(self.corners)
        self.absent: Mapping[str, Sequence[str]] = {}
        self.findings = Findings()
        rest = H * W - len(self.ids) * self.side**2
        self.findings.add("pixels at the east and south edge that fill no tile, left out", self.cube.path.name, rest)

    def read(self, tile: str) -> Tile:
        """Read one tile.

        Raises:
            BadInput: A label is without flag, or no date is in the season.
        """
        row, column = self.corners[tile]
        rows, columns = slice(row, row + self.side), slice(column, column + self.side)
        where, size = f"{self.cube.path}, tile {tile}", self.cube.resolution
        labels = to_classes(
            where, self.cube.labels(rows, columns), self.table, "give it a flag_value and a flag_meaning"
        )
        series = (self.cube.dates, *self.cube.read(rows, columns, self.picked, tile, self.findings))
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        north, east = self._cell(row, column)
        transform = (size, 0.0, self.cube.left + column * size, 0.0, -size, self.cube.top - row * size)
        return Tile(tile, SPLITS[(north + 2 * east) % 4], reflectance, dates, valid, labels, self.cube.crs, transform)

    def _cell(self, row: int, column: int) -> tuple[int, int]:
        """Row and column, on the map's grid, of the tile whose north-west pixel is (row, column)."""
        size, ground = self.cube.resolution, self.side * self.cube.resolution
        south, west = self.cube.top - (row + self.side) * size, self.cube.left + column * size
        return int(np.floor(south / ground + NEAR)), int(np.floor(west / ground + NEAR))


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
