"""A data cube of one's own: a NetCDF file or a Zarr store a season, on a disk or in a bucket, read lazily.

Dimensions time, y, x; one variable a band (B02, B03, ...); a label variable (y, x) with CF flag_values and
flag_meanings; an optional scene classification `SCL`; a coordinate reference system in attribute `crs` or a CF grid
mapping.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from upath import UPath

from stcln.data.readers.blocks import check_chunks, few_at_once, open_dataset
from stcln.data.readers.reading import Findings, band_name, to_int16
from stcln.errors import BadInput

USABLE = (4, 5, 6, 7)
"""SCL classes that count as seen: vegetation, bare soil, water, unclassified.

Left out: nodata, saturated, dark, shadow, medium and high cloud, cirrus, snow.
"""
NEAR = 1e-6
BROKEN = (OSError, RuntimeError, ValueError, KeyError, EOFError, zlib.error)  # of HDF5, Zarr and their codecs


@dataclass(frozen=True)
class Window:
    """A rectangle of a cube as stored, all dates, north up.

    Attributes:
        bands: By index of the band, in the type of the file [T,H,W].
        scene: Scene classes [T,H,W]; None where the cube has none.
    """

    bands: dict[int, NDArray[Any]]
    scene: NDArray[Any] | None

    def part(self, rows: slice, columns: slice) -> "Window":
        """A rectangle of this one, without a copy."""
        bands = {i: band[:, rows, columns] for i, band in self.bands.items()}
        return Window(bands, None if self.scene is None else self.scene[:, rows, columns])


class Cube:
    """One cube, opened lazily: only what `read` asks for is read.

    Attributes:
        path: The file or directory; a `UPath` where it lies in a bucket.
        season: Attribute `season`, else the year in the name.
        crs: `EPSG:<code>`.
        bands: All bands, with two digits, as Sentinel-2 numbers them: a Zarr store has no order of its own.
        names: The variables of these bands.
        dates: datetime64[D] [T] as stored, unsorted and repeated days included.
        shape: H, W in pixels.
        resolution: Side of a pixel in metres.
        left, top: Outer corner in metres.
        south_up: Whether the first row stored is the southernmost.

    Raises:
        BadInput: It is not such a cube; the missing part is named.
    """

    def __init__(self, path: Path | UPath) -> None:
        self.path = path
        try:
            data = open_dataset(path)
        except BROKEN as error:
            raise BadInput(path, f"not a NetCDF file or Zarr store: {error}", "convert it with xarray") from None
        if missing := {"time", "y", "x"} - set(data.coords):
            raise BadInput(path, f"no coordinate {', '.join(sorted(missing))}", "name the dimensions time, y and x")
        found = (str(name) for name in data if re.fullmatch(r"B\d\d?A?", str(name)))
        self.names = sorted(found, key=lambda name: (band_name(name).replace("B8A", "B08A"), name))
        if not self.names:
            raise BadInput(path, "no band variable", "name one variable a band B02, B03, ...")
        self.data = data
        for name in (*self.names, "SCL"):
            self._check(name)
        self.bands = tuple(band_name(name) for name in self.names)
        self.crs = self._crs()
        if data.time.dtype.kind != "M":
            problem = f"holds {data.time.dtype}, not dates"
            raise BadInput(f"{path}, coordinate time", problem, "give it CF units such as `days since 2018-01-01`")
        self.dates = data.time.values.astype("datetime64[D]")
        self.shape = (data.sizes["y"], data.sizes["x"])
        self.south_up = bool(data.y.values[-1] > data.y.values[0])
        self.resolution, self.left, self.top = self._ground()

    def __reduce__(self) -> tuple[type["Cube"], tuple[Path | UPath]]:
        return Cube, (self.path,)  # in another process it is opened anew

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
        found = [v for v in self.data.data_vars.values() if {*v.dims} == {"y", "x"} and "flag_meanings" in v.attrs]
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

    def variables(self, picked: Sequence[int]) -> list[xr.DataArray]:
        """What `load` reads but the labels, unread."""
        return [self.data[name] for name in (*(self.names[i] for i in picked), "SCL") if name in self.data]

    def load(self, rows: slice, columns: slice, picked: Sequence[int]) -> Window:
        """Read a rectangle from the file, each of its chunks once.

        Args:
            rows: From the north.
            columns: From the west.
            picked: Indices of the bands.

        Raises:
            BadInput: A chunk is broken; the variable is named.
        """
        bands = {i: self._load(self.names[i], rows, columns) for i in picked}
        return Window(bands, self._load("SCL", rows, columns) if "SCL" in self.data else None)

    def decode(self, window: Window, tile: str, findings: Findings) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Reflectance and validity of what was loaded.

        A pixel is valid where SCL is usable (without SCL: anywhere), no band is NaN or the `_FillValue` it declares,
        and not all are 0, which is nodata in a band that declares none. CF scale_factor and add_offset give
        reflectance; numbers without them are x 10,000 already.

        Args:
            window: Its bands become C, in their order there.
            tile: Name for the findings.
            findings: Clipped values are told to it.

        Returns:
            Reflectance x 10,000 int16 [T,C,H,W], valid bool [T,H,W].
        """
        images, empty, missing, broken = [], [], [], []
        for i, raw in window.bands.items():
            at = self.data[self.names[i]].attrs
            broken.append(np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool))
            filled = raw == at.get("_FillValue", 0)
            missing.append(broken[-1] | filled if "_FillValue" in at else broken[-1])
            empty.append(missing[-1] | filled)
            if "scale_factor" in at or "add_offset" in at:
                raw = np.rint((raw * float(at.get("scale_factor", 1)) + float(at.get("add_offset", 0))) * 10_000)
            images.append(to_int16(np.where(missing[-1], 0, raw), tile, findings))
        findings.add("pixels with NaN, invalid", tile, int(np.any(broken, axis=0).sum()))
        valid = ~np.any(missing, axis=0) & ~np.all(empty, axis=0)
        if window.scene is not None:
            valid &= np.isin(window.scene, USABLE)
        return np.stack(images, axis=1), valid

    def read(
        self, rows: slice, columns: slice, picked: Sequence[int], tile: str, findings: Findings
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Load a rectangle and decode it; see there."""
        return self.decode(self.load(rows, columns, picked), tile, findings)

    def labels(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Raw labels of a rectangle [H,W], north up."""
        return self._load(str(self.label.name), rows, columns)

    def _load(self, name: str, rows: slice, columns: slice) -> NDArray[Any]:
        H, found = self.shape[0], self.data[name]
        stored = slice(max(H - rows.stop, 0), H - rows.start) if self.south_up else rows
        try:
            with few_at_once(found):
                part = found.isel(y=stored, x=columns).load()
        except BROKEN as error:
            where = f"{self.path}, variable {name}, rows from {rows.start}, columns from {columns.start}"
            raise BadInput(where, f"not readable: {error}", "fetch the cube again") from None
        values: NDArray[Any] = part.transpose("time", "y", "x", missing_dims="ignore").values
        return values[..., ::-1, :] if self.south_up else values

    def _check(self, name: str) -> None:
        """Refuse a band, or scene classes, of other dimensions or in chunks beyond memory."""
        if name in self.data:
            found, where = self.data[name], f"{self.path}, variable {name}"
            if {*found.dims} != {"time", "y", "x"}:
                raise BadInput(where, f"has dimensions {found.dims}", "give it time, y and x")
            check_chunks(where, found)

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


def paths(root: Path | UPath) -> list[Path | UPath]:
    """The files and directories in a directory that should be cubes."""
    found: list[Path | UPath] = sorted(root.iterdir(), key=str) if root.is_dir() else []
    return [path for path in found if path.suffix in (".nc", ".nc4", ".zarr")]
