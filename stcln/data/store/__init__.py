"""The season store: every tile of a season in one sharded Zarr 3 group that `xarray.open_zarr` reads.

    reflectance int16 [tile,time,band,y,x]   x 10,000; padded dates are 0
    valid       bool  [tile,time,y,x]        seen: neither nodata nor cloud
    label       uint8 [tile,y,x]             class index, 255 outside every class
    date        int32 [tile,time]            CF days since the season's start, -1 where padded
    transform   float64 [tile,6]             (a, b, c, d, e, f) of `Tile`
    tile, split, band                        names
    S1A, S1D    int16 [tile,S1A_time,S1A_band,y,x]   radar, decibel x 100, on dates of its own; -32768 is nodata
    date_S1A    int32 [tile,S1A_time]        as `date`

A chunk holds up to 64 dates, all bands and up to 16 pixels of a side of one tile (32 if that is all of it); a shard
all dates of some tiles.
The same tiles give the same bytes. Which tiles belong in it is `prepare`'s decision.
"""

from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from upath import UPath

from stcln.data.store.chunks import Files, Local, Sharded, Window
from stcln.data.store.radar import Orbit
from stcln.data.store.remote import Remote
from stcln.data.store.write import FORMAT, Header, write
from stcln.data.tile import ORBITS
from stcln.errors import BadInput, refusals_of_a_server

__all__ = ["Header", "SeasonStore", "Window", "write"]
CACHE = 8 << 30
"""Most bytes of a store on a server that are held on the local disk."""
BROKEN = (KeyError, TypeError, ValueError, RuntimeError, OSError)  # of Zarr and its codecs, on torn or foreign files


def _broken(path: Path | UPath, why: object) -> BadInput:
    """The refusal of a store that cannot be read."""
    return BadInput(path, f"not a season store: {why}", f"run `prepare --season {path.stem}` again")


def _opened(path: Path | UPath, cache: int) -> tuple[zarr.Group, Files]:
    if isinstance(path, Path):
        return zarr.open_group(path, mode="r"), Local(path)
    return zarr.open_group(str(path), mode="r", storage_options=dict(path.storage_options)), Remote(path, cache)


class SeasonStore:
    """A season store opened for reading, by many threads if need be. `len(store)` is the number of tiles.

    Attributes:
        path: Its directory, or where it lies on a server.
        season, layout, crs, start, simulated: As in `Header`; crs as `EPSG:<code>`.
        bands, classes, ignore: Band names (radar after optical), class names, indices of ignored classes.
        mean, std: float32 [C], reflectance x 10,000 and decibel x 100, of the valid pixels of tiles trained on; NaN if
            there are none.
        ids, splits: By tile; several native splits of a tile are separated by spaces.
        size: Height and width of every tile in pixels.
        images: Whether images and labels are here. Of a store made elsewhere Dagster has all but these.
    """

    def __init__(self, path: Path | UPath, group: zarr.Group, files: Files) -> None:
        at = cast(dict[str, Any], dict(group.attrs))
        self.path, self._group = path, group
        self.season, self.layout, self.crs, self.simulated = at["season"], at["layout"], at["crs"], at["simulated"]
        self.start = date.fromisoformat(at["season_start"])
        self.classes, self.ignore = tuple(at["class_names"]), tuple(at["ignore"])
        orbits = [orbit for orbit in ORBITS if orbit in group]
        radar = [name for orbit in orbits for name in cast(Any, group[orbit].attrs["bands"])]
        self.bands = (*(str(name) for name in self._array("band")[:]), *radar)
        self.mean, self.std = (
            np.array(at[key] or [np.nan] * len(self.bands), np.float32) for key in ("band_mean", "band_std")
        )
        self.ids = [str(name) for name in self._array("tile")[:]]
        self.splits = [str(name) for name in self._array("split")[:]]
        self._days: NDArray[np.int32] = self._array("date")[:]
        self._transforms: NDArray[np.float64] = self._array("transform")[:]
        self._sizes = files.sizes()
        self._reflectance, self._valid, self._label = (
            Sharded(files, self._sizes, self._array(name)) for name in ("reflectance", "valid", "label")
        )
        self.size: tuple[int, int] = self._label.shape[1:]
        self._orbits = [self._orbit(files, orbit) for orbit in orbits]

    @classmethod
    def open(cls, path: Path | UPath | str, cache: int = CACHE) -> Self:
        """Open a store.

        Args:
            path: A directory, or an fsspec address such as `s3://bucket/2019.zarr`.
            cache: Most bytes to hold on the local disk of a store on a server; gone with the process.

        Raises:
            BadInput: It is missing or not a season store, or the server does not answer.
        """
        path = (UPath(path) if "://" in path else Path(path)) if isinstance(path, str) else path
        try:
            with nullcontext() if isinstance(path, Path) else refusals_of_a_server(str(path)):
                if not path.is_dir():
                    raise BadInput(path, "the season store is missing", f"run `prepare --season {path.stem}`")
                store = cls(path, *_opened(path, cache))
            store._check()
        except BadInput:
            raise
        except BROKEN as error:
            raise _broken(path, error) from None
        return store

    def _check(self) -> None:
        """Refuse what another version wrote, and files that are gone: Zarr reads them as 0."""
        if (found := self._group.attrs.get("format")) != FORMAT:
            raise ValueError(f"its format is {found}, not {FORMAT}")
        if not (self._days >= 0).any(axis=1).all():
            raise ValueError("a tile has no date")
        arrays = (self._label, self._reflectance, self._valid, *(orbit.array for orbit in self._orbits))
        wanted = [
            "/".join((array.name, "c", str(shard), *"0" * (len(array.shape) - 1)))
            for array in arrays
            for shard in range(-(-len(self) // array.shard[0]))
        ]
        absent = [name for name in wanted if name not in self._sizes]
        self.images = len(absent) < len(wanted)
        if absent and self.images:
            raise ValueError(f"file {absent[0]} is missing")

    def _array(self, name: str) -> Any:
        return self._group[name]

    def _orbit(self, files: Files, name: str) -> Orbit:
        array = self._array(name)
        first = self.bands.index(array.attrs["bands"][0])
        mean = self.mean[first : first + array.shape[2]]
        return Orbit(Sharded(files, self._sizes, array), self._array(f"date_{name}")[:], self._days, mean)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last_image(self) -> date:
        """The day of the newest image of any tile."""
        return self.start + timedelta(days=int(self._days.max()))

    def dates(self, tile: int) -> NDArray[np.datetime64]:
        """The dates of a tile, datetime64[D] [T], without padding."""
        days = self._days[tile]
        dates: NDArray[np.datetime64] = np.datetime64(self.start) + days[days >= 0].astype("timedelta64[D]")
        return dates

    def transform(self, tile: int) -> tuple[float, float, float, float, float, float]:
        """Affine coefficients of a tile, as `Tile.transform`."""
        a, b, c, d, e, f = self._transforms[tile].tolist()
        return a, b, c, d, e, f

    def read(
        self, tile: int, dates: NDArray[np.intp] | None = None, window: Window | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.uint8]]:
        """Read a tile or a window of it.

        Args:
            tile: Its index.
            dates: Ascending indices into `dates(tile)`; None: all.
            window: Row, column and side in pixels; None: the whole tile.

        Returns:
            All bands int16 [T,C,H,W], valid bool [T,H,W], labels uint8 [H,W]. Radar at a date is the latest image that
            is not after it; where there is none, or nodata, the band's mean.
        """
        return *self.read_images(tile, dates, window), self.read_labels(tile, window)

    def read_images(
        self, tile: int, dates: NDArray[np.intp] | None = None, window: Window | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """The same without labels: all bands int16 [T,C,H,W], valid bool [T,H,W]."""
        keep = np.arange(len(self.dates(tile))) if dates is None else dates
        arrays: list[Sharded | Orbit] = [self._valid, self._reflectance, *self._orbits]
        valid, *bands = (self._part(array, tile, keep, window) for array in arrays)
        return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=1), valid

    def read_labels(self, tile: int, window: Window | None = None) -> NDArray[np.uint8]:
        """The labels of a tile or a window of it, uint8 [H,W], without reading its images."""
        return self._part(self._label, tile, None, window)

    def _part(
        self, array: Sharded | Orbit, tile: int, times: NDArray[np.intp] | None, window: Window | None
    ) -> NDArray[Any]:
        if not self.images:
            raise BadInput(self.path, "its images are not here", f"`dvc pull {self.path.name}`, or `prepare` it again")
        try:
            return array.read(tile, times, window or (0, 0, max(self.size)))
        except BadInput:
            raise
        except BROKEN as error:
            raise _broken(self.path, f"tile {self.ids[tile]} cannot be read, {error}") from None
