"""MTLCC as GeoTIFF files, the layout that the published code reads: a directory a tile, three files a date."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from stcln.data.readers.mtlcc_tree import MtlccTree, expect_images
from stcln.data.readers.reading import Place, expect
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.study import Dataset

if TYPE_CHECKING:
    from upath import UPath

RESOLUTIONS = ("10m", "20m", "60m")
IMAGE = re.compile(r"([0-9]{8})_(10m|20m|60m)\.tif")
LABELS = "y.tif"
AGAIN = "fetch the tile again, or leave it out"
Ground = tuple[Any, Any]
"""A file's coordinate reference system and affine transform, as rasterio has them."""


class MtlccGeotiff(MtlccTree):
    """A season of MTLCC's GeoTIFF tree; a `Reader`.

    A tile's directory holds `{YYYYMMDD}_{10m,20m,60m}.tif`, and raw class ids in `y.tif`; its ground is that of its
    first image of 10 m.

    Args:
        root: The directory with classes.txt, tileids/ and data<YY>/, or data/ where it holds one year only.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: A list or the season's folder is missing or not as it should be.
    """

    def __init__(self, root: "Path | UPath", dataset: Dataset, season: str) -> None:
        folders = [root / name for name in (f"data{season[-2:]}", "data")]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            raise BadInput(folders[0], f"no folder of season {season}", "check dataset.root and cells.season")
        super().__init__(root, dataset, season, folder, {path.name for path in folder.iterdir()})

    def read(self, tile: str) -> Tile:
        """Read one tile.

        Raises:
            BadInput: A file is missing or no GeoTIFF, or a shape, a type, a date or a class is wrong.
        """
        folder = self.folder / tile
        where = str(folder)
        days = _days(folder)
        with rasterio.Env():  # one for all files: making it costs as much as opening one
            stacks, grounds = zip(*(_series(folder, days, resolution) for resolution in RESOLUTIONS), strict=True)
            raw, _ = _read(folder / LABELS)
        expect_images(where, [stack.shape for stack in stacks], len(days))
        expect(str(folder / LABELS), "the raster", raw.shape, (1, *stacks[0].shape[1:3]))
        return self.tile(tile, where, stacks, np.array(days, "datetime64[D]"), raw[0], _place(where, *grounds[0]))


def _days(folder: "Path | UPath") -> list[np.datetime64]:
    """The dates of a tile in order."""
    try:
        found = {match[0]: match for path in folder.iterdir() if (match := IMAGE.fullmatch(path.name))}
        days = {text: datetime.strptime(text, "%Y%m%d").date() for text in sorted({m[1] for m in found.values()})}
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(folder, "the tile's directory is missing", AGAIN) from None
    except ValueError as error:
        raise BadInput(folder, f"an image's date is none: {error}", AGAIN) from None
    if not days:
        raise BadInput(folder, "no image <YYYYMMDD>_10m.tif inside", AGAIN)
    return [np.datetime64(day) for day in days.values()]


def _series(folder: "Path | UPath", days: list[np.datetime64], resolution: str) -> tuple[NDArray[Any], Ground]:
    """Images of one resolution [T,H,W,C], and the ground of the first."""
    paths = [folder / f"{str(day).replace('-', '')}_{resolution}.tif" for day in days]
    images, grounds = zip(*map(_read, paths), strict=True)
    for path, image in zip(paths, images, strict=True):
        expect(str(path), "the raster", image.shape, images[0].shape)
    return np.stack(images).transpose(0, 2, 3, 1), grounds[0]


def _read(path: "Path | UPath") -> tuple[NDArray[Any], Ground]:
    """A raster of integers [C,H,W] and its ground."""
    try:
        with MemoryFile(path.read_bytes()) as held, held.open(driver="GTiff") as file:
            raster: NDArray[Any] = file.read()
            ground = file.crs, file.transform
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", AGAIN) from None
    except (RasterioError, TypeError, ValueError) as error:
        raise BadInput(path, f"not a whole GeoTIFF: {error}", AGAIN) from None
    if raster.dtype.kind not in "iu":
        raise BadInput(path, f"holds {raster.dtype}, not integers", "store reflectance x 10,000 as uint16")
    return raster, ground


def _place(where: str, crs: Any, grid: Any) -> Place:
    if crs is None or (code := crs.to_epsg()) is None:
        raise BadInput(where, "no coordinate reference system with an EPSG code", AGAIN)
    return f"EPSG:{code}", (grid.a, grid.b, grid.c, grid.d, grid.e, grid.f)
