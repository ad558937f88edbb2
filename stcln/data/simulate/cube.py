"""Writes a simulated season as a data cube: NetCDF, a variable a band, scene classes, crop types with CF flags."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS

from stcln.data.simulate.clouds import CLOUD_SHARE
from stcln.data.simulate.crops import NAMES, WOOD
from stcln.data.simulate.fields import PIXEL, Region
from stcln.data.simulate.scene import Season, View
from stcln.data.simulate.spectra import BANDS, LAND

EPSG = 32631
WEST, NORTH = 550_000, 5_640_000  # metres, before they are moved onto the grid of tiles
VOID = 255
_ORDER = (WOOD, *range(WOOD))  # unknown is 0, as everywhere
_BANDS = [BANDS.index(band) for band in LAND]
_NODATA, _SHADOW, _PLANTS, _SOIL, _LIKELY, _CLOUD = 0, 3, 4, 5, 8, 9  # scene classes of Sentinel-2


def write(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write `simulated_<season>.nc` for every season; `done` is called after every tile."""
    for season in seasons:
        writer = _Writer(season)
        for place in ground.places:
            writer.put(season.view(place))
            done()
        writer.close(root / f"simulated_{season.year}.nc")


class _Writer:
    """Gathers the tiles of one season and writes them as one cube."""

    def __init__(self, season: Season) -> None:
        self.season = season
        height, width = season.ground.fields.shape
        shape = (len(season.dates), height, width)
        self.bands = np.zeros((len(LAND), *shape), np.uint16)
        self.scene = np.full(shape, _NODATA, np.uint8)
        self.crops = np.full((height, width), VOID, np.uint8)

    def put(self, view: View) -> None:
        """Add a tile; what no tile covers stays nodata and void."""
        size = self.season.ground.size
        rows, columns = slice(view.place.row, view.place.row + size), slice(view.place.col, view.place.col + size)
        at = np.searchsorted(self.season.dates, view.dates)
        light = np.rint(view.surface[:, _BANDS] * 1e4) * view.seen[:, None]
        self.bands[:, at, rows, columns] = np.moveaxis(light, 1, 0)
        self.scene[at, rows, columns] = _classify(view)
        self.crops[rows, columns] = np.argsort(_ORDER)[view.crop]

    def close(self, path: Path) -> None:
        """Write the NetCDF file."""
        step = self.season.ground.size * PIXEL
        west, north = WEST // step * step, NORTH // step * step
        _, height, width = self.scene.shape
        names = [NAMES[index].replace(" ", "_") for index in _ORDER]
        flags = {
            "flag_values": np.array([*range(len(names)), VOID], np.uint8),
            "flag_meanings": " ".join([*names, "void"]),
        }
        space = {"spatial_ref": ((), np.int32(0), {"crs_wkt": CRS.from_epsg(EPSG).to_wkt()})}
        data = xr.Dataset(
            {
                **{
                    name: (("time", "y", "x"), band, {"units": "1"})
                    for name, band in zip(LAND, self.bands, strict=True)
                },
                "SCL": (("time", "y", "x"), self.scene, {"long_name": "Sentinel-2 scene classification"}),
                "crop_type": (("y", "x"), self.crops, flags),
                **space,
            },
            coords={
                "time": self.season.dates.astype("datetime64[ns]") + np.timedelta64(10 * 60 + 50, "m"),
                "y": north - PIXEL // 2 - PIXEL * np.arange(height),
                "x": west + PIXEL // 2 + PIXEL * np.arange(width),
            },
            attrs={"title": f"Simulated season {self.season.year}", "season": self.season.year, "crs": f"EPSG:{EPSG}"},
        )
        fields = [*LAND, "SCL", "crop_type"]
        packed = {name: {"zlib": True, "complevel": 3, "grid_mapping": "spatial_ref"} for name in fields}
        path.parent.mkdir(parents=True, exist_ok=True)
        data.to_netcdf(path, engine="netcdf4", encoding=packed)


def _classify(view: View) -> NDArray[np.uint8]:
    """Scene classes as a processor would guess them: thin cloud and light shadow pass unseen."""
    red, near = view.surface[:, BANDS.index("B04")], view.surface[:, BANDS.index("B08")]
    scene = np.where(near - red > 0.3 * (near + red), _PLANTS, _SOIL)
    scene[view.shadow > 0.3] = _SHADOW
    scene[view.opacity > CLOUD_SHARE] = _LIKELY
    scene[view.opacity > 0.5] = _CLOUD
    return np.where(view.seen, scene, _NODATA).astype(np.uint8)
