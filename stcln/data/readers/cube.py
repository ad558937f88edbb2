"""A data cube of one's own: a NetCDF file or a Zarr store a season, read lazily.

Dimensions time, y, x; one variable a band (B02, B03, ...); a label variable (y, x) with CF flag_values and
flag_meanings; an optional scene classification `SCL`; a coordinate reference system in attribute `crs` or a CF grid
mapping.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from stcln.data.readers.reading import Findings, band_name, to_int16
from stcln.errors import BadInput

USABLE = (4, 5, 6, 7)
"""SCL classes that count as seen: vegetation, bare soil, water, unclassified.

Left out: nodata, saturated, dark, shadow, medium and high cloud, cirrus, snow.
"""
NEAR = 1e-6


class Cube:
    """One cube, opened lazily: only what `read` asks for is read.

    Attributes:
        path: The file or directory.
        season: Attribute `season`, else the year in the name.
        crs: `EPSG:<code>`.
        bands: All bands, in the file's order, with two digits.
        names: The variables of these bands.
        dates: datetime64[D] [T] as stored, unsorted and repeated days included.
        shape: H, W in pixels.
        resolution: Side of a pixel in metres.
        left, top: Outer corner in metres.

    Raises:
        BadInput: It is not such a cube; the missing part is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        engine = "zarr" if path.is_dir() else "netcdf4"
        try:
            data = xr.open_dataset(path, engine=engine, mask_and_scale=False, chunks=None, cache=False)
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(path, f"not a NetCDF file or Zarr store: {error}", "convert it with xarray") from None
        if missing := {"time", "y", "x"} - set(data.coords):
            raise BadInput(path, f"no coordinate {', '.join(sorted(missing))}", "name the dimensions time, y and x")
        self.names = [str(name) for name in data if re.fullmatch(r"B\d\d?A?", str(name))]
        if not self.names:
            raise BadInput(path, "no band variable", "name one variable a band B02, B03, ...")
        self.data = data.transpose("time", "y", "x", missing_dims="ignore")
        self.bands = tuple(band_name(name) for name in self.names)
        self.crs = self._crs()
        if data.time.dtype.kind != "M":
            problem = f"holds {data.time.dtype}, not dates"
            raise BadInput(f"{path}, coordinate time", problem, "give it CF units such as `days since 2018-01-01`")
        self.dates = data.time.values.astype("datetime64[D]")
        self.shape = (data.sizes["y"], data.sizes["x"])
        self.resolution, self.left, self.top = self._ground()

    @cached_property
    def season(self) -> str:
        """Attribute `season`, else the first year in the name; empty if neither tells it."""
        named = re.search(r"(?:19|20)\d\d", self.path.stem)
        return str(self.data.attrs.get("season") or (named[0] if named else ""))

    @cached_property
    def label(self) -> xr.DataArray:
        """The label variable.

        Raises:
            BadInput: There is none, or more than one.
        """
        found = [v for v in self.data.data_vars.values() if v.dims == ("y", "x") and "flag_meanings" in v.attrs]
        if len(found) != 1:
            problem = f"{len(found)} variables (y, x) with flag_values and flag_meanings"
            raise BadInput(self.path, problem, "keep one label variable with CF flags")
        return found[0]

    @property
    def flags(self) -> dict[int, str]:
        """Class name by raw label."""
        names = str(self.label.attrs["flag_meanings"]).split()
        values = np.atleast_1d(self.label.attrs.get("flag_values", [])).tolist()
        if len(names) != len(values):
            problem = f"{len(values)} flag_values and {len(names)} flag_meanings"
            raise BadInput(f"{self.path}, variable {self.label.name}", problem, "give every value one name")
        return dict(zip(values, names, strict=True))

    def read(
        self, rows: slice, columns: slice, picked: list[int], tile: str, findings: Findings
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Read a window, north up, all stored dates.

        A pixel is valid where SCL is usable (without SCL: anywhere), no band is NaN or the `_FillValue` it declares,
        and not all are 0, which is nodata in a band that declares none. CF scale_factor and add_offset give
        reflectance; numbers without them are x 10,000 already.

        Args:
            rows: Of the window, from the north.
            columns: Of the window, from the west.
            picked: Indices of the bands.
            tile: Name for the findings.
            findings: Clipped values are told to it.

        Returns:
            Reflectance x 10,000 int16 [T,C,H,W], valid bool [T,H,W].
        """
        images, empty, missing, broken = [], [], [], []
        for i in picked:
            variable = self._window(self.data[self.names[i]], rows, columns)
            raw, at = variable.values, variable.attrs
            broken.append(np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool))
            filled = raw == at.get("_FillValue", 0)
            missing.append(broken[-1] | filled if "_FillValue" in at else broken[-1])
            empty.append(missing[-1] | filled)
            if "scale_factor" in at or "add_offset" in at:
                raw = np.rint((raw * float(at.get("scale_factor", 1)) + float(at.get("add_offset", 0))) * 10_000)
            images.append(to_int16(np.where(missing[-1], 0, raw), tile, findings))
        findings.add("pixels with NaN, invalid", tile, int(np.any(broken, axis=0).sum()))
        valid = ~np.any(missing, axis=0) & ~np.all(empty, axis=0)
        if "SCL" in self.data:
            valid &= np.isin(self._window(self.data.SCL, rows, columns).values, USABLE)
        return np.stack(images, axis=1), valid

    def labels(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Raw labels of a window [H,W], north up."""
        return self._window(self.label, rows, columns).values

    def _window(self, variable: xr.DataArray, rows: slice, columns: slice) -> xr.DataArray:
        south_up = self.data.y.values[-1] > self.data.y.values[0]
        return variable.isel(y=slice(None, None, -1) if south_up else slice(None)).isel(y=rows, x=columns)

    def _crs(self) -> str:
        maps = [v.attrs for v in self.data.variables.values() if {"crs_wkt", "spatial_ref"} & set(v.attrs)]
        found = self.data.attrs.get("crs") or next((at.get("crs_wkt") or at["spatial_ref"] for at in maps), None)
        try:
            code = CRS.from_user_input(found).to_epsg()
        except CRSError:
            code = None
        if code is None:
            raise BadInput(f"{self.path}, attribute crs", f"{found!r} has no EPSG code", "set it to `EPSG:<code>`")
        return f"EPSG:{code}"

    def _ground(self) -> tuple[float, float, float]:
        """Resolution, left and top edge in metres, from the coordinates of pixel centres."""
        x, y = (self.data[axis].values.astype(np.float64) for axis in ("x", "y"))
        steps = np.abs(np.concatenate([np.diff(x), np.diff(y)]))
        if not (len(steps) and steps.min() > 0 and np.ptp(steps) <= NEAR * steps.max() and x[-1] >= x[0]):  # nor NaN
            raise BadInput(self.path, "x and y are no even grid of square pixels", "resample the cube to one")
        size = float(steps[0])
        return size, float(x[0]) - size / 2, float(y.max()) + size / 2


def paths(root: Path) -> list[Path]:
    """The files and directories in a directory that should be cubes."""
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in found if path.suffix in (".nc", ".nc4", ".zarr")]


def find(root: Path) -> list[Cube]:
    """The cubes in a directory, opened."""
    return [Cube(path) for path in paths(root)]
