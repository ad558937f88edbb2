"""The MTLCC layout: one gzipped TFRecord a tile and year, split lists and classes as text files beside them."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers import tfrecord
from stcln.data.readers.mtlcc_tree import BANDS, MtlccTree, expect_images, read_lines
from stcln.data.readers.reading import Place, expect
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.study import Dataset

if TYPE_CHECKING:
    from upath import UPath

LAST_DAY = 366
SUFFIX = ".tfrecord.gz"


class Mtlcc(MtlccTree):
    """A season of an MTLCC tree; a `Reader`.

    The year of `dates/doy` is the folder's (`data18` is 2018), since `dates/year` is wrong in the public archive. A
    date is real where doy > 0.

    Args:
        root: The directory with classes.txt, geotransforms.csv, tileids/ and data<YY>/.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: A list or the season's folder is missing or not as it should be.
    """

    def __init__(self, root: "Path | UPath", dataset: Dataset, season: str) -> None:
        folder, self.year = root / f"data{season[-2:]}", int(season)
        if not folder.is_dir():
            raise BadInput(folder, f"no folder of season {season}", "check dataset.root and cells.season")
        stored = {path.name.removesuffix(SUFFIX) for path in folder.iterdir() if path.name.endswith(SUFFIX)}
        super().__init__(root, dataset, season, folder, stored)
        self.ground = _geotransforms(root / "geotransforms.csv")
        self.sources = (*self.sources, root / "geotransforms.csv")

    def read(self, tile: str) -> Tile:
        """Read one tile.

        Raises:
            BadInput: A checksum, the gzip, a shape, a date or a class is wrong, or its geotransform is missing.
        """
        path = self.folder / f"{tile}{SUFFIX}"
        where = str(path)
        payload = next(tfrecord.read(path), None)
        if payload is None:
            raise BadInput(path, "no record inside", "fetch the file again")
        record = _Record(where, tfrecord.parse(path, payload))
        doy = record.array("dates/doy", record.shape("dates", 1))
        if doy.max() > LAST_DAY:
            raise BadInput(f"{where}, feature dates/doy", f"{doy.max()} is no day of a year", "fetch the file again")
        shapes = [record.shape(key, 4) for key in BANDS]
        expect_images(where, shapes, len(doy))
        images = [record.array(f"{key}/data", shape) for key, shape in zip(BANDS, shapes, strict=True)]
        raw = record.array("labels/data", record.shape("labels", 3))
        expect(where, "labels", raw.shape, images[0].shape[:3])
        if tile not in self.ground:
            raise BadInput(where, "no line in geotransforms.csv", "add the tile's geotransform")
        T = int(np.count_nonzero(doy > 0))
        real = slice(T) if (doy[:T] > 0).all() else np.flatnonzero(doy > 0)  # padded behind, a view will do
        dates = np.datetime64(f"{self.year}-01-01") + (doy[real] - 1).astype("timedelta64[D]")
        return self.tile(tile, where, [image[real] for image in images], dates, raw[0], self.ground[tile])


class _Record:
    """Features of a tile's Example as arrays."""

    def __init__(self, where: str, features: dict[str, tfrecord.Feature]) -> None:
        self.where, self.features = where, features

    def shape(self, key: str, size: int) -> tuple[int, ...]:
        found = self.features.get(f"{key}/shape")
        if not isinstance(found, np.ndarray) or len(found) != size or (found < 1).any():
            raise BadInput(self.where, f"feature {key}/shape is missing or not {size} sizes", "fetch the file again")
        return tuple(found.tolist())

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        found = self.features.get(key)
        data = found[0] if isinstance(found, list) and found else b""
        if len(data) != 8 * math.prod(shape):
            problem = f"feature {key} has {len(data)} bytes, its shape {shape} needs {8 * math.prod(shape)}"
            raise BadInput(self.where, problem, "fetch the file again")
        return np.frombuffer(data, "<i8").reshape(shape)


def _geotransforms(path: "Path | UPath") -> dict[str, Place]:
    """Coordinate reference system and affine coefficients by id, from `id,xmin,xres,0,ymax,0,-yres,srid`."""
    found = {}
    for row in csv.reader(read_lines(path)):
        try:
            xmin, xres, skew_x, ymax, skew_y, yres = values = [float(value) for value in row[1:7]]
            if not all(map(math.isfinite, values)):
                raise ValueError
            found[row[0]] = (f"EPSG:{int(row[7])}", (xres, skew_x, xmin, skew_y, yres, ymax))
        except (ValueError, IndexError):
            raise BadInput(path, f"line {','.join(row)!r} is no geotransform", "mend the line") from None
    return found
