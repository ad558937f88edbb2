"""The MTLCC layout: one gzipped TFRecord a tile and year, split lists and classes as text files beside them."""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers import tfrecord
from stcln.data.readers.reading import Findings, band_indices, class_table, expect, tidy, to_classes, to_int16
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.study import Dataset

BANDS = {
    "x10": ("B04", "B03", "B02", "B08"),
    "x20": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "x60": ("B01", "B09", "B10"),
}
"""Bands by the record's feature, in stacked order; their sides are p, p/2 and p/6."""
LAST_DAY = 366


class Mtlcc:
    """A season of an MTLCC tree; a `Reader`.

    The year of `dates/doy` is the folder's (`data18` is 2018), since `dates/year` is wrong in the public archive. A
    date is real where doy > 0. There is no cloud mask: a pixel is valid where any band is not 0. A tile's split is
    every list that names it.

    Args:
        root: The directory with classes.txt, tileids/ and data<YY>/.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: A list or the season's folder is missing or not as it should be.
    """

    def __init__(self, root: Path, dataset: Dataset, season: str) -> None:
        self.folder, self.start, self.year = root / f"data{season[-2:]}", dataset.start(season), int(season)
        if not self.folder.is_dir():
            raise BadInput(self.folder, f"no folder of season {season}", "check dataset.root and cells.season")
        self.list = root / "classes.txt"
        self.classes, self.table = class_table(str(self.list), _classes(self.list), dataset.classes)
        self.ground = _geotransforms(root / "geotransforms.csv")
        every = tuple(itertools.chain(*BANDS.values()))
        self.picked = band_indices(str(root), every, dataset.bands)
        self.bands = tuple(every[i] for i in self.picked)
        self.lists = _tileids(root / "tileids")
        self.sources: Sequence[Path] = (self.folder, self.list, root / "geotransforms.csv", root / "tileids")
        stored = {path.name.split(".")[0] for path in self.folder.glob("*.tfrecord.gz")}
        self.ids: Sequence[str] = sorted(self.lists.keys() & stored, key=_natural)
        self.absent: Mapping[str, Sequence[str]] = {
            "listed in tileids, no record on disk": sorted(self.lists.keys() - stored, key=_natural),
            "record on disk, in no list": sorted(stored - self.lists.keys(), key=_natural),
        }
        self.findings = Findings()

    def read(self, tile: str) -> Tile:
        """Read one tile.

        Raises:
            BadInput: A checksum, the gzip, a shape, a date or a class is wrong, or its geotransform is missing.
        """
        path = self.folder / f"{tile}.tfrecord.gz"
        where = str(path)
        payload = next(tfrecord.read(path), None)
        if payload is None:
            raise BadInput(path, "no record inside", "fetch the file again")
        record = _Record(where, tfrecord.parse(path, payload))
        doy = record.array("dates/doy", record.shape("dates", 1))
        if doy.max() > LAST_DAY:
            raise BadInput(f"{where}, feature dates/doy", f"{doy.max()} is no day of a year", "fetch the file again")
        T, side = len(doy), record.shape("x10", 4)[1]
        images = [record.images(key, (T, side, side, len(names))) for key, names in BANDS.items()]
        raw = record.array("labels/data", record.shape("labels", 3))
        expect(where, "labels", raw.shape, (T, side, side))
        real = doy > 0
        stacked = np.concatenate(images, axis=-1)[real].transpose(0, 3, 1, 2)
        dates = np.datetime64(f"{self.year}-01-01") + (doy[real] - 1).astype("timedelta64[D]")
        series = (dates, to_int16(stacked[:, self.picked], tile, self.findings), (stacked != 0).any(axis=1))
        labels = to_classes(where, raw[0], self.table, f"add it to {self.list.name}")
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        if tile not in self.ground:
            raise BadInput(where, "no line in geotransforms.csv", "add the tile's geotransform")
        crs, transform = self.ground[tile]
        return Tile(tile, " ".join(self.lists[tile]), reflectance, dates, valid, labels, crs, transform)


class _Record:
    """Features of a tile's Example as arrays."""

    def __init__(self, where: str, features: dict[str, tfrecord.Feature]) -> None:
        self.where, self.features = where, features

    def shape(self, key: str, size: int) -> tuple[int, ...]:
        found = self.features.get(f"{key}/shape")
        if not isinstance(found, np.ndarray) or len(found) != size or (found < 1).any():
            raise BadInput(self.where, f"feature {key}/shape is missing or not {size} sizes", "fetch the file again")
        return tuple(int(number) for number in found)

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        found = self.features.get(key)
        data = found[0] if isinstance(found, list) and found else b""
        if len(data) != 8 * int(np.prod(shape)):
            problem = f"feature {key} has {len(data)} bytes, its shape {shape} needs {8 * int(np.prod(shape))}"
            raise BadInput(self.where, problem, "fetch the file again")
        return np.frombuffer(data, "<i8").reshape(shape)

    def images(self, key: str, wanted: tuple[int, int, int, int]) -> NDArray[np.int64]:
        """Bands of one resolution [T,H,W,C], every pixel repeated up to the 10 m grid."""
        shape = self.shape(key, 4)
        times = max(1, wanted[1] // shape[1])
        expect(self.where, key, (shape[0], shape[1] * times, shape[2] * times, shape[3]), wanted)
        return self.array(f"{key}/data", shape).repeat(times, axis=1).repeat(times, axis=2)


def _classes(path: Path) -> dict[int, str]:
    """Name by raw id; the line is the class index."""
    rows = [line.split("|", 1) for line in _lines(path)]
    if bad := [row[0] for row in rows if len(row) != 2 or not row[0].strip().isdigit()]:
        raise BadInput(path, f"line {bad[0]!r} is not `id|name`", "mend the line")
    return {int(raw): name.strip() for raw, name in rows}


def _tileids(folder: Path) -> dict[str, list[str]]:
    """The sorted names of the lists an id is in, by id."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.tileids")):
        for tile in dict.fromkeys(_lines(path)):
            found.setdefault(tile, []).append(path.stem)
    if not found:
        raise BadInput(folder, "no tile is listed", "put the lists <split>.tileids there")
    return found


def _geotransforms(path: Path) -> dict[str, tuple[str, tuple[float, float, float, float, float, float]]]:
    """Coordinate reference system and affine coefficients by id, from `id,xmin,xres,0,ymax,0,-yres,srid`."""
    found = {}
    for row in csv.reader(_lines(path)):
        try:
            xmin, xres, skew_x, ymax, skew_y, yres = values = [float(value) for value in row[1:7]]
            if not all(map(math.isfinite, values)):
                raise ValueError
            found[row[0]] = (f"EPSG:{int(row[7])}", (xres, skew_x, xmin, skew_y, yres, ymax))
        except (ValueError, IndexError):
            raise BadInput(path, f"line {','.join(row)!r} is no geotransform", "mend the line") from None
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", "fetch the archive again, or check dataset.root") from None


def _natural(name: str) -> tuple[int, str]:
    return len(name), name
