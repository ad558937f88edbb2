"""The PASTIS layout: arrays of whole patches in .npy files, their dates, folds and ground in metadata.geojson."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers.reading import SPAN, Findings, band_indices, expect, tidy, to_classes, to_int16
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.storage import read_json
from stcln.study import Dataset

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = (
    "Background", "Meadow", "Soft winter wheat", "Corn", "Winter barley", "Winter rapeseed", "Spring barley",
    "Sunflower", "Grapevine", "Beet", "Winter triticale", "Winter durum wheat", "Fruits vegetables flowers",
    "Potatoes", "Leguminous fodder", "Soybeans", "Orchard", "Mixed cereal", "Sorghum", "Void label",
)  # fmt: skip
NODATA = -10000
AGAIN = "fetch the archive again"


class Pastis:
    """A season of a PASTIS tree; a `Reader`.

    A patch belongs to the season in whose span [start, start + 475 days) its median date lies. The archive holds
    class indices only, so `dataset.classes` renames them. There is no cloud mask: a pixel is valid unless all its bands
    are -10000. Affine coefficients come from the corners of the patch's polygon, which is turned against the grid of
    the archive's projection.

    Args:
        root: The directory with metadata.geojson, DATA_S2/ and ANNOTATIONS/.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: The metadata are missing or not as they should be.
    """

    def __init__(self, root: Path, dataset: Dataset, season: str) -> None:
        self.root, self.start, self.metadata = root, dataset.start(season), root / "metadata.geojson"
        self.classes = dataset.classes or CLASSES
        self.picked = band_indices(str(root), BANDS, dataset.bands)
        self.bands = tuple(BANDS[i] for i in self.picked)
        document = read_json(self.metadata)
        try:
            self.crs = self._crs(document)
            features = {str(one["properties"]["ID_PATCH"]): one for one in document["features"]}
        except (AttributeError, KeyError, TypeError) as error:
            raise BadInput(self.metadata, f"not a collection of patches: {error!r}", AGAIN) from None
        self.features = {name: one for name, one in sorted(features.items()) if self._is_of_season(one["properties"])}
        stored = {path.stem.removeprefix("S2_") for path in (root / "DATA_S2").glob("S2_*.npy")}
        self.ids: Sequence[str] = list(self.features)
        self.sources: Sequence[Path] = (self.metadata, root / "DATA_S2", root / "ANNOTATIONS")
        self.absent: Mapping[str, Sequence[str]] = {
            "in metadata.geojson, no S2 file on disk": sorted(self.features.keys() - stored),
            "S2 file on disk, not in metadata.geojson": sorted(stored - features.keys()),
            "in metadata.geojson, without dates": [
                n for n, one in features.items() if not one["properties"].get("dates-S2")
            ],
        }
        self.findings = Findings()

    def read(self, tile: str) -> Tile:
        """Read one patch.

        Raises:
            BadInput: A file is missing or cut off, or a type, shape, date or class is wrong.
        """
        properties = self.features[tile]["properties"]
        path, truth = (self.root / name for name in (f"DATA_S2/S2_{tile}.npy", f"ANNOTATIONS/TARGET_{tile}.npy"))
        where = str(path)
        images = _load(path)
        dates = _dates(where, properties)
        if images.ndim != 4:
            raise BadInput(where, f"{images.ndim} dimensions, not T,C,H,W", AGAIN)
        side = images.shape[-1]
        expect(where, "the array", images.shape, (len(dates), len(BANDS), side, side))
        target = _load(truth)
        expect(str(truth), "the array", target.shape, (3, side, side))
        same = {index: index for index in range(len(self.classes))}
        labels = to_classes(str(truth), target[0], same, "see dataset.classes")
        valid = (images != NODATA).any(axis=1)
        series = (dates, to_int16(images[:, self.picked], tile, self.findings), valid)
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        try:
            fold, transform = properties["Fold"], _transform(self.features[tile]["geometry"]["coordinates"], side)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadInput(f"{self.metadata}, patch {tile}", f"no fold or no ground: {error}", AGAIN) from None
        return Tile(tile, f"fold_{fold}", reflectance, dates, valid, labels, self.crs, transform)

    def _crs(self, document: dict[str, Any]) -> str:
        name = str(document.get("crs", {}).get("properties", {}).get("name", ""))
        if not (found := re.search(r"EPSG:+(\d+)$", name)):
            raise BadInput(f"{self.metadata}, field crs", f"{name!r} names no EPSG code", AGAIN)
        return f"EPSG:{found[1]}"

    def _is_of_season(self, properties: dict[str, Any]) -> bool:
        dates = np.sort(_dates(str(self.metadata), properties))
        begin = np.datetime64(self.start)
        return bool(len(dates)) and bool(begin <= dates[len(dates) // 2] < begin + SPAN)


def _dates(where: str, properties: dict[str, Any]) -> NDArray[np.datetime64]:
    """The dates of a patch in the order of its images; `dates-S2` is an object or the JSON text of one."""
    found = properties.get("dates-S2", {})
    try:
        found = json.loads(found) if isinstance(found, str) else found
        days = [_day(found[key]) for key in sorted(found, key=int)]
    except (TypeError, ValueError, AttributeError) as error:
        problem = f"dates-S2 of patch {properties.get('ID_PATCH')} are not dates: {error}"
        raise BadInput(where, problem, "mend metadata.geojson") from None
    return np.array(days, "datetime64[D]") if days else np.array([], "datetime64[D]")


def _day(value: object) -> date:
    try:
        return datetime.strptime(str(value), "%Y%m%d").date()
    except ValueError:
        raise ValueError(f"{value!r} is not YYYYMMDD") from None


def _load(path: Path) -> NDArray[np.integer[Any]]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", AGAIN) from None
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(path, f"not a whole .npy file: {error}", AGAIN) from None
    if array.dtype.kind not in "iu":
        problem = f"holds {array.dtype}, not integers" + (
            " and NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        )
        raise BadInput(path, problem, "store reflectance x 10,000 as int16, nodata as -10000")
    return array


def _transform(coordinates: Any, side: int) -> tuple[float, float, float, float, float, float]:
    """Affine coefficients from a patch's polygon: its corners nearest to north-west, north-east and south-west."""
    corners = np.array([point[:2] for polygon in coordinates for ring in polygon for point in ring], np.float64)
    if not np.isfinite(corners).all():
        raise ValueError(f"a corner of the polygon is {corners[~np.isfinite(corners)][0]}")
    x, y = corners.T
    (x0, y0), (x1, y1), (x2, y2) = (corners[i] for i in (np.argmax(y - x), np.argmax(x + y), np.argmin(x + y)))
    a, b, d, e = (x1 - x0) / side, (x2 - x0) / side, (y1 - y0) / side, (y2 - y0) / side
    return float(a), float(b), float(x0), float(d), float(e), float(y0)
