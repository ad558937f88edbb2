"""What the two layouts of MTLCC share: classes and split lists as text files, bands of three resolutions.

How a tile's images are stored is `mtlcc`'s (TFRecord) and `mtlcc_geotiff`'s.
"""

import itertools
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.only import listed_tiles, narrow, natural
from stcln.data.readers.reading import (
    HIGHEST,
    Findings,
    Place,
    band_indices,
    class_table,
    expect,
    read_text,
    tidy,
    to_classes,
    to_int16,
)
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.study import Dataset

if TYPE_CHECKING:
    from upath import UPath

BANDS = {
    "x10": ("B04", "B03", "B02", "B08"),
    "x20": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "x60": ("B01", "B09", "B10"),
}
"""Bands by resolution, in stacked order; the sides of their images are p, p/2 and p/6."""
EVERY = tuple(itertools.chain(*BANDS.values()))


class MtlccTree:
    """The lists of an MTLCC tree, and how a tile is put together; each layout adds `read`.

    There is no cloud mask: a pixel is valid where any band is not 0. A tile's split is every list that names it.

    Args:
        root: The directory with classes.txt and tileids/.
        dataset: The study's.
        season: The year.
        folder: Where the season's tiles are.
        stored: Ids of the tiles there.

    Raises:
        BadInput: A list is missing or not as it should be.
    """

    def __init__(
        self, root: "Path | UPath", dataset: Dataset, season: str, folder: "Path | UPath", stored: Set[str]
    ) -> None:
        self.folder, self.start, self.list = folder, dataset.start(season), root / "classes.txt"
        self.classes, self.table = class_table(str(self.list), _classes(self.list), dataset.classes)
        self.picked = band_indices(str(root), EVERY, dataset.bands)
        self.bands = tuple(EVERY[i] for i in self.picked)
        self.splits, stored = narrow(dataset.only, _splits(root / "tileids"), stored)
        self.sources: Sequence[Path | UPath] = (folder, self.list, root / "tileids")
        self.ids: Sequence[str] = sorted(self.splits.keys() & stored, key=natural)
        self.absent: Mapping[str, Sequence[str]] = {
            "listed in tileids, no record on disk": sorted(self.splits.keys() - stored, key=natural)
        }
        self.unlisted: Mapping[str, Sequence[str]] = {
            "record on disk, in no list": sorted(stored - self.splits.keys(), key=natural)
        }
        self.findings = Findings()

    def tile(
        self, tile: str, where: str, images: Sequence[NDArray[Any]], dates: NDArray[np.datetime64],
        raw: NDArray[Any], place: Place,
    ) -> Tile:  # fmt: skip
        """Put a tile together.

        Args:
            tile: Its id.
            where: Its file, for messages.
            images: By resolution [T,H,W,C], integers, as `expect_images` has them.
            dates: Of the images [T], in any order.
            raw: Raw class ids [H,W].
            place: Coordinate reference system and affine coefficients.

        Raises:
            BadInput: A date or a class is wrong.
        """
        stacked = _stack(images)
        valid = np.bitwise_or.reduce(stacked, axis=1) != 0
        stacked = stacked if self.bands == EVERY else stacked[:, self.picked]
        labels = to_classes(where, raw, self.table, f"add it to {self.list.name}")
        series = (dates, to_int16(stacked, tile, self.findings), valid)
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        return Tile(tile, self.splits[tile], reflectance, dates, valid, labels, *place)


def expect_images(where: str, shapes: Sequence[Sequence[int]], dates: int) -> None:
    """Refuse images [T,H,W,C] that are not `dates` squares of all bands, or do not cover the first one's grid."""
    side = shapes[0][1]
    for (name, bands), (T, H, W, C) in zip(BANDS.items(), shapes, strict=True):
        times = max(1, side // H)
        expect(where, name, (T, H * times, W * times, C), (dates, side, side, len(bands)))


def _stack(images: Sequence[NDArray[Any]]) -> NDArray[np.integer[Any]]:
    """Bands of all resolutions [T,C,H,W], every pixel repeated up to the 10 m grid; int16 unless a value is beyond."""
    T, side = images[0].shape[:2]
    fits = all(image.min() >= -HIGHEST and image.max() <= HIGHEST for image in images if image.size)
    stacked = np.empty((T, len(EVERY), side, side), np.int16 if fits else np.int64)
    at = 0
    for image in images:
        _, H, W, C = image.shape
        grid = stacked[:, at : at + C].reshape(T, C, H, side // H, W, side // W)
        grid[...] = image.transpose(0, 3, 1, 2)[:, :, :, None, :, None]
        at += C
    return stacked


def _classes(path: "Path | UPath") -> dict[int, str]:
    """Name by raw id; the line is the class index."""
    rows = [line.split("|", 1) for line in read_lines(path)]
    if bad := [row[0] for row in rows if len(row) != 2 or not row[0].strip().isdigit()]:
        raise BadInput(path, f"line {bad[0]!r} is not `id|name`", "mend the line")
    return {int(raw): name.strip() for raw, name in rows}


def _splits(folder: "Path | UPath") -> dict[str, str]:
    """The sorted names of the lists an id is in, by id."""
    paths = [path for path in folder.iterdir() if path.suffix == ".tileids"] if folder.is_dir() else []
    found = listed_tiles({path.stem: read_text(path) for path in paths})
    if not found:
        raise BadInput(folder, "no tile is listed", "put the lists <split>.tileids there")
    return found


def read_lines(path: "Path | UPath") -> list[str]:
    """The lines of a text file that hold anything, stripped."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
