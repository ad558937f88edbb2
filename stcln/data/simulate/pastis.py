"""Writes simulated seasons in the PASTIS layout: a patch's reflectance and targets as .npy, and metadata.geojson."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln import storage
from stcln.data.simulate.crops import PASTIS
from stcln.data.simulate.fields import FOLDS, PIXEL, Region
from stcln.data.simulate.scene import Season, View
from stcln.data.simulate.spectra import BANDS, LAND

EPSG = 2154
WEST, NORTH = 700_000, 6_900_000  # metres
NODATA = -10_000
_BANDS = [BANDS.index(band) for band in LAND]


def write(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write the tree; `done` is called after every patch."""
    writer = _Writer(root)
    for season in seasons:
        for place in ground.places:
            writer.write(season, season.view(place))
            done()
    writer.close()


class _Writer:
    """Writes patch after patch, and at the end what describes them all.

    PASTIS keeps one season; here a patch's id begins with its season (`180001` is patch 1 of 2018), and the same ground
    has the same fold in every season.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.features: list[dict[str, Any]] = []
        self.moments: dict[int, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for name in ("DATA_S2", "ANNOTATIONS"):
            (target / name).mkdir(parents=True)

    def write(self, season: Season, view: View) -> None:
        """Write a patch: int16 [T,10,H,W] reflectance x 10,000, nodata beyond the swath; uint8 target [3,H,W]."""
        name = season.year % 100 * 10_000 + view.place.number
        light = np.rint(view.surface[:, _BANDS] * 1e4)
        series = np.where(view.seen[:, None], light, NODATA).astype(np.int16)
        target = np.zeros((3, *view.crop.shape), np.uint8)
        target[0] = np.array(PASTIS, np.uint8)[view.crop]
        np.save(self.target / f"DATA_S2/S2_{name}.npy", series)
        np.save(self.target / f"ANNOTATIONS/TARGET_{name}.npy", target)
        np.save(self.target / f"ANNOTATIONS/ParcelIDs_{name}.npy", view.field)
        self.features.append(self._feature(name, season, view, target[0]))
        means, squares = light.mean((0, 2, 3)), (light**2).mean((0, 2, 3))
        self.moments.setdefault(view.place.fold + 1, []).append((means, squares))

    def close(self) -> None:
        """Write metadata.geojson and NORM_S2_patch.json."""
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{EPSG}"}}
        collection = {"type": "FeatureCollection", "crs": crs, "features": self.features}
        storage.write_json(self.target / "metadata.geojson", collection)
        norm = {}
        for fold in range(1, FOLDS + 1):
            if parts := self.moments.get(fold):
                mean, square = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
                norm[f"Fold_{fold}"] = {"mean": mean.tolist(), "std": np.sqrt(square - mean**2).tolist()}
        storage.write_json(self.target / "NORM_S2_patch.json", norm)

    def _feature(self, name: int, season: Season, view: View, target: NDArray[np.uint8]) -> dict[str, Any]:
        side = season.ground.size * PIXEL
        west, north = WEST + view.place.col * PIXEL, NORTH - view.place.row * PIXEL
        east, south = west + side, north - side
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        properties = {
            "Fold": view.place.fold + 1,
            "ID_PATCH": name,
            "N_Parcel": len(np.unique(view.field[target > 0])),
            "Parcel_Cover": float((target > 0).mean()),
            "TILE": "simulated",
            "id": str(name),
            "dates-S2": {str(i): int(str(day).replace("-", "")) for i, day in enumerate(view.dates)},
        }
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        return {"type": "Feature", "id": str(name), "properties": properties, "geometry": geometry}
