"""A season store written tile after tile: chunks go into shards as they come, all else is described at the end."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import ZarrUserWarning

from stcln.data.store.arrays import describe, parts, put, tiles_of_a_shard
from stcln.data.store.packed import Packed, pack
from stcln.data.store.shards import Shards
from stcln.data.tile import ORBITS, VOID, Tile
from stcln.errors import BadInput

FORMAT = 2
KINDS = {"label": "uint8", "reflectance": "int16", "valid": "bool"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What all tiles of a store share.

    Attributes:
        season: Its name, a year.
        start: Day 0 of positions.
        layout: Format of the archive.
        bands: Band names: those of the reflectance in the order of C, then the radar's, as `S1A_VV`.
        classes: Class names by index.
        ignore: Indices of the classes out of loss and metrics.
        simulated: Whether the data are simulated.
    """

    season: str
    start: date
    layout: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    ignore: tuple[int, ...]
    simulated: bool

    def radar(self, orbit: str) -> tuple[str, ...]:
        """The bands of an orbit."""
        return tuple(name for name in self.bands if name.startswith(f"{orbit}_"))

    @property
    def orbits(self) -> tuple[str, ...]:
        """The radar orbits that the store has."""
        return tuple(orbit for orbit in ORBITS if self.radar(orbit))

    @property
    def optical(self) -> tuple[str, ...]:
        """The bands of the reflectance."""
        return tuple(name for name in self.bands if name.partition("_")[0] not in ORBITS)


def write(path: Path, tiles: Iterable[Tile], header: Header, trained_on: Callable[[Tile], bool]) -> None:
    """Write a store.

    Args:
        path: Directory, empty or absent.
        tiles: Tiles of one shape [C,H,W] and one crs, in the order they get; T may differ.
        header: What they share.
        trained_on: Whether a tile's valid pixels count in `band_mean` and `band_std`.

    Raises:
        BadInput: There is no tile.
    """
    assemble(path, (pack(tile, trained_on(tile)) for tile in tiles), header)


def assemble(path: Path, tiles: Iterable[Packed], header: Header) -> None:
    """Write a store of packed tiles, held in memory one at a time.

    Raises:
        BadInput: There is no tile.
    """
    group = zarr.create_group(path, zarr_format=3)
    writer = _Writer(path, header)
    try:
        for tile in tiles:
            writer.add(tile)
    finally:
        writer.close()
    if not writer.tiles:
        raise BadInput(path, "no tile to write", "check dataset.root and the season's files")
    writer.finish(group)


class _Writer:
    """A store that grows by a tile at a time; of each only its names, dates and sums stay in memory."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.tiles: list[Packed] = []
        self.shards: dict[str, Shards] = {}

    def add(self, tile: Packed) -> None:
        if not self.tiles:
            grid, many = (parts(tile.shape[1])[0], parts(tile.shape[2])[0]), tiles_of_a_shard(tile.shape)
            dims = {"label": 3, "reflectance": 5, "valid": 4, **dict.fromkeys(self.header.orbits, 5)}
            self.shards = {name: Shards(self.path / name, dims[name], grid, many) for name in dims}
        for name, shards in self.shards.items():
            shards.add(tile.chunks.get(name, ()))
        self.tiles.append(replace(tile, chunks={}))

    def close(self) -> None:
        for shards in self.shards.values():
            shards.close()

    def finish(self, group: zarr.Group) -> None:
        first, header = self.tiles[0], self.header
        for shards in self.shards.values():
            shards.finish()
        for name, (shape, attributes) in self._arrays().items():
            kind = KINDS.get(name, "int16")
            describe(group, name, kind, shape, tiles_of_a_shard(first.shape), attributes)
        for name in ("reflectance", *header.orbits):
            self._put_dates(group, name)
        put(group, "transform", np.array([tile.transform for tile in self.tiles], np.float64), ("tile", "coefficient"))
        ids, splits = [tile.id for tile in self.tiles], [tile.split for tile in self.tiles]
        for name, dim, values in (("tile", "tile", ids), ("split", "tile", splits), ("band", "band", header.optical)):
            put(group, name, np.array(values, dtype=np.dtypes.StringDType()), (dim,))
        mean, std = self._statistics()
        group.attrs.update({
            "format": FORMAT, "season": header.season, "season_start": header.start.isoformat(),
            "layout": header.layout, "crs": first.crs, "class_names": list(header.classes),
            "ignore": list(header.ignore), "simulated": header.simulated, "band_mean": mean, "band_std": std,
        })  # fmt: skip
        with warnings.catch_warnings():  # the specification has no consolidated metadata yet; xarray reads them
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(str(self.path))

    def _arrays(self) -> dict[str, tuple[tuple[int, ...], dict[str, Any]]]:
        """Shape and attributes of the arrays whose chunks stand."""
        N, (C, H, W), T = len(self.tiles), self.tiles[0].shape, self._dates("reflectance")
        seen = {"units": "1", "long_name": "reflectance x 10,000", "coordinates": "split"}
        label = {"long_name": "class index into class_names, 255 outside every class", "void": VOID}
        arrays: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
            "label": ((N, H, W), label), "reflectance": ((N, T, C, H, W), seen), "valid": ((N, T, H, W), {}),
        }  # fmt: skip
        for orbit in self.header.orbits:
            bands = self.header.radar(orbit)
            known = {"units": "0.01 dB", "long_name": f"backscatter of orbit {orbit}", "bands": list(bands)}
            arrays[orbit] = ((N, self._dates(orbit), len(bands), H, W), known)
        return arrays

    def _dates(self, name: str) -> int:
        return max(1, *(len(tile.dates.get(name, ())) for tile in self.tiles))

    def _put_dates(self, group: zarr.Group, name: str) -> None:
        days = np.full((len(self.tiles), self._dates(name)), -1, np.int32)
        for row, tile in zip(days, self.tiles, strict=True):
            known = np.array(tile.dates.get(name, ()), "datetime64[D]")
            row[: len(known)] = (known - np.datetime64(self.header.start)).astype(np.int32)
        units = {"units": f"days since {self.header.start}", "calendar": "proleptic_gregorian", "_FillValue": -1}
        key, dim = ("date", "time") if name == "reflectance" else (f"date_{name}", f"{name}_time")
        put(group, key, days, ("tile", dim), -1, units)

    def _statistics(self) -> tuple[list[float | None] | None, list[float | None] | None]:
        """Mean and standard deviation by band, from exact sums; None where nothing was counted."""
        mean: list[float | None] = []
        deviation: list[float | None] = []
        for name in ("reflectance", *self.header.orbits):
            C = len(self.header.radar(name) or self.header.optical)
            sums = [tile.moments[name] for tile in self.tiles if name in tile.moments]
            for band in range(C):
                count, total, square = (sum(found[k][band] for found in sums) for k in range(3))
                mean.append(total / count if count else None)
                deviation.append(max(square / count - (total / count) ** 2, 0.0) ** 0.5 if count else None)
        return (mean, deviation) if any(m is not None for m in mean) else (None, None)
