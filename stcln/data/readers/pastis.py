"""The PASTIS layout: arrays of whole patches in .npy files, their dates, folds and ground in metadata.geojson.

PASTIS-R adds radar, which `pastis_radar` reads.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.only import narrow
from stcln.data.readers import pastis_radar
from stcln.data.readers.pastis_files import AGAIN, days, is_of_season, load, middle, transform
from stcln.data.readers.reading import Findings, band_indices, expect, tidy, to_classes, to_int16
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.storage import read_json
from stcln.study import Dataset, Only

if TYPE_CHECKING:
    from upath import UPath

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = (
    "Background", "Meadow", "Soft winter wheat", "Corn", "Winter barley", "Winter rapeseed", "Spring barley",
    "Sunflower", "Grapevine", "Beet", "Winter triticale", "Winter durum wheat", "Fruits vegetables flowers",
    "Potatoes", "Leguminous fodder", "Soybeans", "Orchard", "Mixed cereal", "Sorghum", "Void label",
)  # fmt: skip
NODATA = -10000
INTEGERS = "store reflectance x 10,000 as int16, nodata as -10000"


class Pastis:
    """A season of a PASTIS tree; a `Reader`.

    A patch belongs to the season in whose span [start, start + 475 days) its median date lies. The archive holds
    class indices only, so `dataset.classes` renames them. There is no cloud mask: a pixel is valid unless all its bands
    are -10000. Affine coefficients come from the corners of the patch's polygon, which is turned against the grid of
    the archive's projection.

    Args:
        root: The directory with metadata.geojson, DATA_S2/, ANNOTATIONS/ and, in PASTIS-R, DATA_S1A/ and DATA_S1D/.
        dataset: The study's.
        season: The year.

    Raises:
        BadInput: The metadata are missing or not as they should be.
    """

    def __init__(self, root: "Path | UPath", dataset: Dataset, season: str) -> None:
        self.root, self.start, self.metadata = root, dataset.start(season), root / "metadata.geojson"
        self.classes = dataset.classes or CLASSES
        every = BANDS + pastis_radar.offered(root)
        self.bands = tuple(every[i] for i in band_indices(str(root), every, dataset.bands))
        self.picked = [BANDS.index(name) for name in self.bands if name in BANDS]
        _expect_order(self.bands)
        self.orbits = pastis_radar.by_orbit(self.bands[len(self.picked) :])
        if not self.metadata.is_file():
            raise BadInput(self.metadata, "the file is missing", "check dataset.root, or fetch the archive again")
        document = read_json(self.metadata)
        try:
            self.crs = self._crs(document)
            features = {str(one["properties"]["ID_PATCH"]): one for one in document["features"]}
        except (AttributeError, KeyError, TypeError) as error:
            raise BadInput(self.metadata, f"not a collection of patches: {error!r}", AGAIN) from None
        self.sources: Sequence[Path | UPath] = tuple(
            root / name for name in ("metadata.geojson", "DATA_S2", "ANNOTATIONS", *(f"DATA_{o}" for o in self.orbits))
        )
        self._list(features, dataset.only)
        self.findings = Findings()

    def _list(self, features: Mapping[str, Any], only: Only) -> None:
        """Set what is to be read of the season, what is absent, and what is of no season."""
        where, listed = str(self.metadata), {name: one["properties"] for name, one in sorted(features.items())}
        here = {name: one for name, one in listed.items() if is_of_season(middle(where, one), self.start)}
        folder = self.root / "DATA_S2"
        stored = {path.stem.removeprefix("S2_") for path in folder.iterdir()} if folder.is_dir() else set()
        splits, stored = narrow(only, {name: f"fold_{one.get('Fold')}" for name, one in here.items()}, stored)
        undated = [name for name, one in features.items() if not one["properties"].get("dates-S2")]
        self.features = {name: features[name] for name in splits}
        self.ids: Sequence[str] = [name for name in splits if name in stored]
        self.absent: Mapping[str, Sequence[str]] = {
            "in metadata.geojson, no S2 file on disk": sorted(splits.keys() - stored)
        }
        self.unlisted: Mapping[str, Sequence[str]] = {
            "S2 file on disk, not in metadata.geojson": sorted(stored - features.keys()),
            "in metadata.geojson, without dates": undated if only == Only() else [],
        }

    def read(self, tile: str) -> Tile:
        """Read one patch.

        Raises:
            BadInput: A file is missing or cut off, or a type, shape, date or class is wrong.
        """
        properties = self.features[tile]["properties"]
        path, truth = (self.root / name for name in (f"DATA_S2/S2_{tile}.npy", f"ANNOTATIONS/TARGET_{tile}.npy"))
        where = str(path)
        images = load(path, "iu", INTEGERS)
        dates = days(where, properties, "dates-S2")
        if images.ndim != 4:
            raise BadInput(where, f"{images.ndim} dimensions, not T,C,H,W", AGAIN)
        side = images.shape[-1]
        expect(where, "the array", images.shape, (len(dates), len(BANDS), side, side))
        target = load(truth, "iu", INTEGERS)
        expect(str(truth), "the array", target.shape, (3, side, side))
        same = {index: index for index in range(len(self.classes))}
        labels = to_classes(str(truth), target[0], same, "see dataset.classes")
        valid = _seen(images)
        images = images if self.picked == list(range(len(BANDS))) else images[:, self.picked]
        series = (dates, to_int16(images, tile, self.findings), valid)
        dates, reflectance, valid = tidy(where, tile, self.start, series, self.findings)
        radar = {
            orbit: pastis_radar.read_radar(self.root, properties, orbit, planes, self.start, side, self.findings)
            for orbit, planes in self.orbits.items()
        }
        try:
            fold, place = properties["Fold"], transform(self.features[tile]["geometry"]["coordinates"], side)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadInput(f"{self.metadata}, patch {tile}", f"no fold or no ground: {error}", AGAIN) from None
        return Tile(tile, f"fold_{fold}", reflectance, dates, valid, labels, self.crs, place, radar)

    def _crs(self, document: dict[str, Any]) -> str:
        name = str(document.get("crs", {}).get("properties", {}).get("name", ""))
        if not (found := re.search(r"EPSG:+(\d+)$", name)):
            raise BadInput(f"{self.metadata}, field crs", f"{name!r} names no EPSG code", AGAIN)
        return f"EPSG:{found[1]}"


def _seen(images: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Where any band is not nodata, bool [T,H,W]; the first band alone mostly tells."""
    seen: NDArray[np.bool_] = images[:, 0] != NODATA
    for band in range(1, images.shape[1]):
        if seen.all():
            break
        seen |= images[:, band] != NODATA
    return seen


def _expect_order(bands: Sequence[str]) -> None:
    """Refuse an order of bands in which a tile's series do not lie one behind the other."""
    series = ["" if name in BANDS else name.partition("_")[0] for name in bands]
    if series[0] or series != sorted(series):
        problem = f"{', '.join(bands)} are not optical bands, then those of S1A, then those of S1D"
        raise BadInput("params.yaml, field dataset.bands", problem, "order them so, with an optical one in front")
