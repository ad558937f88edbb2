"""MTLCC as GeoTIFF files, the layout that the published code reads: a directory a tile, three files a date."""

import itertools
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
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
NEAR = 0.1  # of a pixel of 10 m, that the corners of a tile's files may lie apart


@dataclass(frozen=True)
class _Raster:
    """A file's integers [C,H,W], and its coordinate reference system and affine transform, as rasterio has them."""

    path: "Path | UPath"
    values: NDArray[Any]
    crs: Any
    grid: Any

    @property
    def corners(self) -> NDArray[np.float64]:
        """The corners at row and column 0, at the last column, at the last row, and the last: x, y [4,2]."""
        _, H, W = self.values.shape
        affine = np.reshape(self.grid, (3, 3))[:2]
        found: NDArray[np.float64] = np.array([(0, 0, 1), (W, 0, 1), (0, H, 1), (W, H, 1)]) @ affine.T
        return found


class MtlccGeotiff(MtlccTree):
    """A season of MTLCC's GeoTIFF tree; a `Reader`.

    A tile's directory holds `{YYYYMMDD}_{10m,20m,60m}.tif`, and raw class ids in `y.tif`, all on one ground.

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
            BadInput: A file is missing, no GeoTIFF or lies elsewhere, or a shape, a type, a date or a class is wrong.
        """
        folder = self.folder / tile
        where = str(folder)
        days = _days(folder)
        with rasterio.Env(), warnings.catch_warnings():  # one for all files: making it costs as much as opening one
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # such a file is refused below
            series = [_series(folder, days, resolution) for resolution in RESOLUTIONS]
            labels = _read(folder / LABELS)
        stacks = [np.stack([image.values for image in images]).transpose(0, 2, 3, 1) for images in series]
        expect_images(where, [stack.shape for stack in stacks], len(days))
        expect(str(labels.path), "the raster", labels.values.shape, (1, *stacks[0].shape[1:3]))
        first = series[0][0]
        place = _place(where, first)
        for other in (*itertools.chain(*series), labels):
            _expect_ground(other, first)
        return self.tile(tile, where, stacks, np.array(days, "datetime64[D]"), labels.values[0], place)


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


def _series(folder: "Path | UPath", days: list[np.datetime64], resolution: str) -> list[_Raster]:
    """The images of one resolution by date, all of one shape."""
    images = [_read(folder / f"{str(day).replace('-', '')}_{resolution}.tif") for day in days]
    for image in images:
        expect(str(image.path), "the raster", image.values.shape, images[0].values.shape)
    return images


def _read(path: "Path | UPath") -> _Raster:
    try:
        with MemoryFile(path.read_bytes()) as held, held.open(driver="GTiff") as file:
            raster = _Raster(path, file.read(), file.crs, file.transform)
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", AGAIN) from None
    except (RasterioError, TypeError, ValueError) as error:
        raise BadInput(path, f"not a whole GeoTIFF: {error}", AGAIN) from None
    if (kind := raster.values.dtype).kind not in "iu":
        raise BadInput(path, f"holds {kind}, not integers", "store reflectance x 10,000 as uint16")
    return raster


def _expect_ground(found: _Raster, first: _Raster) -> None:
    """Refuse a file that does not cover the ground of the tile's first image."""
    pixel = abs(first.grid.determinant) ** 0.5
    if found.crs == first.crs and np.abs(found.corners - first.corners).max() <= NEAR * pixel:
        return
    (x, y), *_, (right, bottom) = found.corners.tolist()
    system = f"in {found.crs.to_string()}" if found.crs else "without a coordinate reference system"
    problem = f"lies elsewhere than {first.path.name}, from {x:.10g},{y:.10g} to {right:.10g},{bottom:.10g} {system}"
    raise BadInput(found.path, problem, AGAIN)


def _place(where: str, first: _Raster) -> Place:
    grid = first.grid
    if first.crs is None or (code := first.crs.to_epsg()) is None:
        raise BadInput(where, "no coordinate reference system with an EPSG code", AGAIN)
    return f"EPSG:{code}", (grid.a, grid.b, grid.c, grid.d, grid.e, grid.f)
