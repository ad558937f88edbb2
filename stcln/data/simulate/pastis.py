"""Writes simulated seasons in the PASTIS layout: a patch's reflectance and targets as .npy, and metadata.geojson.

PASTIS-R is the same with radar beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln import storage
from stcln.data.simulate.crops import PASTIS
from stcln.data.simulate.fields import PIXEL, Region
from stcln.data.simulate.radar import Orbit
from stcln.data.simulate.scene import Season, View
from stcln.data.simulate.spectra import BANDS, LAND
from stcln.data.tile import ORBITS

EPSG = 2154
WEST, NORTH = 700_000, 6_900_000  # metres
NODATA = -10_000
Dates = NDArray[np.datetime64]
_BANDS = [BANDS.index(band) for band in LAND]


def write(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write the tree; `done` is called after every patch."""
    _write(root, ground, seasons, (), done)


def write_with_radar(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write the tree of PASTIS-R; `done` is called after every patch."""
    _write(root, ground, seasons, ORBITS, done)


def _write(
    root: Path, ground: Region, seasons: Iterable[Season], orbits: Sequence[str], done: Callable[[], None]
) -> None:
    writer = _Writer(root, orbits)
    for season in seasons:
        radar = {name: Orbit(season, name) for name in orbits}
        for place in ground.places:
            writer.write(season, season.view(place), radar)
            done()
    writer.close()


class _Writer:
    """Writes patch after patch, and at the end what describes them all.

    PASTIS keeps one season; here a patch's id begins with its season (`180001` is patch 1 of 2018), and the same ground
    has the same fold in every season.
    """

    def __init__(self, target: Path, orbits: Sequence[str]) -> None:
        self.target = target
        self.features: list[dict[str, Any]] = []
        self.moments: dict[str, dict[int, list[tuple[NDArray[np.float64], NDArray[np.float64]]]]] = {}
        for name in ("DATA_S2", "ANNOTATIONS", *(f"DATA_{orbit}" for orbit in orbits)):
            (target / name).mkdir(parents=True)

    def write(self, season: Season, view: View, radar: Mapping[str, Orbit]) -> None:
        """Write a patch.

        Int16 [T,10,H,W] reflectance x 10,000, nodata beyond the swath; float32 [T,3,H,W] dB by orbit; uint8 target
        [3,H,W].
        """
        name = season.year % 100 * 10_000 + view.place.number
        light = np.rint(view.surface[:, _BANDS] * 1e4)
        series = np.where(view.seen[:, None], light, NODATA).astype(np.int16)
        target = np.zeros((3, *view.crop.shape), np.uint8)
        target[0] = np.array(PASTIS, np.uint8)[view.crop]
        np.save(self.target / f"DATA_S2/S2_{name}.npy", series)
        np.save(self.target / f"ANNOTATIONS/TARGET_{name}.npy", target)
        np.save(self.target / f"ANNOTATIONS/ParcelIDs_{name}.npy", view.field)
        self._count("S2", view, light)
        for orbit, record in radar.items():
            scatter = record.view(view.place)
            np.save(self.target / f"DATA_{orbit}/{orbit}_{name}.npy", scatter)
            self._count(orbit, view, scatter)
        dates = {"S2": view.dates, **{orbit: record.dates for orbit, record in radar.items()}}
        self.features.append(self._feature(name, season, view, target[0], dates))

    def _count(self, sensor: str, view: View, values: NDArray[np.float32]) -> None:
        means, squares = values.mean((0, 2, 3)), (values**2).mean((0, 2, 3))
        self.moments.setdefault(sensor, {}).setdefault(view.place.fold + 1, []).append((means, squares))

    def close(self) -> None:
        """Write metadata.geojson and, by sensor, NORM_S2_patch.json."""
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{EPSG}"}}
        collection = {"type": "FeatureCollection", "crs": crs, "features": self.features}
        storage.write_json(self.target / "metadata.geojson", collection)
        for sensor, folds in self.moments.items():
            norm = {}
            for fold, parts in folds.items():
                mean, square = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
                norm[f"Fold_{fold}"] = {"mean": mean.tolist(), "std": np.sqrt(square - mean**2).tolist()}
            storage.write_json(self.target / f"NORM_{sensor}_patch.json", norm)

    def _feature(
        self, name: int, season: Season, view: View, target: NDArray[np.uint8], dates: Mapping[str, Dates]
    ) -> dict[str, Any]:
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
        } | {
            f"dates-{sensor}": {str(i): int(str(day).replace("-", "")) for i, day in enumerate(days)}
            for sensor, days in dates.items()
        }
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        return {"type": "Feature", "id": str(name), "properties": properties, "geometry": geometry}
