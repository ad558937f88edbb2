"""Writes simulated seasons as MTLCC's GeoTIFF layout has them: a directory a tile, three files a date, one labels."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from stcln.data.simulate.fields import PIXEL, Region
from stcln.data.simulate.mtlcc import EPSG, STACKS, corner, recorded, write_lists
from stcln.data.simulate.scene import Season, View

RESOLUTIONS = {"x10": "10m", "x20": "20m", "x60": "60m"}


def write(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write the tree, `data<YY>/` a season; `done` is called after every tile."""
    write_lists(root, ground)
    for season in seasons:
        for place in ground.places:
            _tile(root / f"data{season.year % 100:02d}/{place.number}", season.view(place))
            done()


def _tile(target: Path, view: View) -> None:
    """Write one tile: uint16 top-of-atmosphere reflectance x 10,000, and raw class ids."""
    target.mkdir(parents=True)
    stacks, dates, raw = recorded(view)
    with rasterio.Env():  # one for all files
        for name, (factor, _) in STACKS.items():
            for day, image in zip(dates, stacks[name], strict=True):
                path = target / f"{str(day).replace('-', '')}_{RESOLUTIONS[name]}.tif"
                _write(path, np.moveaxis(image, -1, 0), corner(view.place), factor * PIXEL)
        _write(target / "y.tif", raw[None], corner(view.place), PIXEL)


def _write(path: Path, image: NDArray[Any], north_west: tuple[int, int], pixel: int) -> None:
    C, H, W = image.shape
    grid = {"crs": f"EPSG:{EPSG}", "transform": rasterio.Affine(pixel, 0, north_west[0], 0, -pixel, north_west[1])}
    with rasterio.open(path, "w", driver="GTiff", height=H, width=W, count=C, dtype="uint16", **grid) as file:
        file.write(image.astype(np.uint16))
