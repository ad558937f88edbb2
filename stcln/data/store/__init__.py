"""The season store: every tile of a season in one sharded Zarr 3 group that `xarray.open_zarr` reads.

    reflectance int16 [tile,time,band,y,x]   x 10,000; padded dates are 0
    valid       bool  [tile,time,y,x]        seen: neither nodata nor cloud
    label       uint8 [tile,y,x]             class index, 255 outside every class
    date        int32 [tile,time]            CF days since the season's start, -1 where padded
    transform   float64 [tile,6]             (a, b, c, d, e, f) of `Tile`
    tile, split, band                        names

The same tiles give the same bytes. Which tiles belong in it is `prepare`'s decision.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from upath import UPath
from zarr.errors import ZarrUserWarning

from stcln.data.store.arrays import Arrays, Moments
from stcln.data.store.chunks import Files, Local, Sharded, Window
from stcln.data.store.remote import Remote
from stcln.data.tile import Tile
from stcln.errors import BadInput, refusals_of_a_server

FORMAT = 2
CACHE = 8 << 30
"""Most bytes of a store on a server that are held on the local disk."""
BROKEN = (KeyError, TypeError, ValueError, RuntimeError, OSError)  # of Zarr and its codecs, on torn or foreign files


@dataclass(frozen=True, kw_only=True)
class Header:
    """What all tiles of a store share.

    Attributes:
        season: Its name, a year.
        start: Day 0 of positions.
        layout: Format of the archive.
        bands: Band names, in the order of C.
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


def write(path: Path, tiles: Iterable[Tile], header: Header, trained_on: Callable[[Tile], bool]) -> None:
    """Write a store, a shard at a time.

    Args:
        path: Directory, empty or absent.
        tiles: Tiles of one shape [C,H,W] and one crs, in the order they get; T may differ.
        header: What they share.
        trained_on: Whether a tile's valid pixels count in `band_mean` and `band_std`.

    Raises:
        BadInput: There is no tile.
    """
    stream = iter(tiles)
    first = next(stream, None)
    if first is None:
        raise BadInput(path, "no tile to write", "check dataset.root and the season's files")
    group = zarr.create_group(path, zarr_format=3)
    arrays = Arrays(group, first, header.start, header.bands)
    moments = Moments(len(header.bands))
    for batch in _batches(first, stream, arrays.batch):
        arrays.append(batch)
        for tile in batch:
            if trained_on(tile):
                moments.add(tile)
    arrays.finish()
    attributes = {
        "format": FORMAT, "season": header.season, "season_start": header.start.isoformat(), "layout": header.layout,
        "crs": first.crs, "class_names": list(header.classes), "ignore": list(header.ignore),
        "simulated": header.simulated, **moments.attributes(),
    }  # fmt: skip
    group.attrs.update(attributes)
    with warnings.catch_warnings():  # the specification has no consolidated metadata yet; xarray reads them
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(str(path))


def _batches(first: Tile, rest: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    batch = [first, *islice(rest, size - 1)]
    while batch:
        yield batch
        batch = list(islice(rest, size))


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
        bands, classes, ignore: Band names, class names, indices of ignored classes.
        mean, std: float32 [C], reflectance x 10,000, of the valid pixels of tiles trained on; NaN if there are none.
        ids, splits: By tile; several native splits of a tile are separated by spaces.
        size: Height and width of every tile in pixels.
    """

    def __init__(self, path: Path | UPath, group: zarr.Group, files: Files) -> None:
        at = cast(dict[str, Any], dict(group.attrs))
        self.path, self._group = path, group
        self.season, self.layout, self.crs, self.simulated = at["season"], at["layout"], at["crs"], at["simulated"]
        self.start = date.fromisoformat(at["season_start"])
        self.classes, self.ignore = tuple(at["class_names"]), tuple(at["ignore"])
        self.bands = tuple(str(name) for name in self._array("band")[:])
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
        batch, steps = self._reflectance.shard[:2]
        for at in range(0, len(self), batch):
            times = range(0, int((self._days[at : at + batch] >= 0).sum(1).max()), steps)
            shard = at // batch
            wanted = [f"label/c/{shard}/0/0", *(f"valid/c/{shard}/{t // steps}/0/0" for t in times)]
            wanted += [f"reflectance/c/{shard}/{t // steps}/0/0/0" for t in times]
            if absent := [name for name in wanted if name not in self._sizes]:
                raise ValueError(f"file {absent[0]} is missing")

    def _array(self, name: str) -> Any:
        return self._group[name]

    def __len__(self) -> int:
        return len(self.ids)

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
            Reflectance int16 [T,C,H,W], valid bool [T,H,W], labels uint8 [H,W].
        """
        keep = np.arange(len(self.dates(tile))) if dates is None else dates
        reflectance, valid = (self._part(array, tile, keep, window) for array in (self._reflectance, self._valid))
        return reflectance, valid, self.read_labels(tile, window)

    def read_labels(self, tile: int, window: Window | None = None) -> NDArray[np.uint8]:
        """The labels of a tile or a window of it, uint8 [H,W], without reading its images."""
        return self._part(self._label, tile, None, window)

    def _part(self, array: Sharded, tile: int, times: NDArray[np.intp] | None, window: Window | None) -> NDArray[Any]:
        try:
            return array.read(tile, times, window or (0, 0, max(self.size)))
        except BadInput:
            raise
        except BROKEN as error:
            raise _broken(self.path, f"tile {self.ids[tile]} cannot be read, {error}") from None

    def read_valid(self, tile: int) -> NDArray[np.bool_]:
        """The validity of a whole tile, bool [T,H,W], without reading its reflectance."""
        return self._part(self._valid, tile, np.arange(len(self.dates(tile))), None)
