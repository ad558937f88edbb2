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
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ZarrUserWarning

from stcln.data.store.arrays import Arrays, Moments
from stcln.data.tile import Tile
from stcln.errors import BadInput

FORMAT = 2
BROKEN = (KeyError, TypeError, ValueError, RuntimeError, OSError)  # of Zarr and its codecs, on torn or foreign files

Window = tuple[int, int, int]
"""Row, column, side in pixels."""


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


def _broken(path: Path, why: object) -> BadInput:
    """The refusal of a store that cannot be read."""
    return BadInput(path, f"not a season store: {why}", f"run `prepare --season {path.stem}` again")


class SeasonStore:
    """A season store opened for reading. `len(store)` is the number of tiles.

    Attributes:
        path: Its directory.
        season, layout, crs, start, simulated: As in `Header`; crs as `EPSG:<code>`.
        bands, classes, ignore: Band names, class names, indices of ignored classes.
        mean, std: float32 [C], reflectance x 10,000, of the valid pixels of tiles trained on; NaN if there are none.
        ids, splits: By tile; several native splits of a tile are separated by spaces.
        size: Height and width of every tile in pixels.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
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
        self._reflectance, self._valid, self._label = (self._array(n) for n in ("reflectance", "valid", "label"))
        self.size: tuple[int, int] = self._label.shape[1:]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store.

        Raises:
            BadInput: It is missing or not a season store.
        """
        if not path.is_dir():
            raise BadInput(path, "the season store is missing", f"run `prepare --season {path.stem}`")
        try:
            store = cls(path, zarr.open_group(path, mode="r"))
            store._check()
        except BROKEN as error:
            raise _broken(path, error) from None
        return store

    def _check(self) -> None:
        """Refuse what another version wrote, and files that are gone: Zarr reads them as 0."""
        if (found := self._group.attrs.get("format")) != FORMAT:
            raise ValueError(f"its format is {found}, not {FORMAT}")
        if not (self._days >= 0).any(axis=1).all():
            raise ValueError("a tile has no date")
        batch, steps = self._reflectance.shards[:2]
        for at in range(0, len(self), batch):
            times = range(0, int((self._days[at : at + batch] >= 0).sum(1).max()), steps)
            shard = at // batch
            wanted = [f"label/c/{shard}/0/0", *(f"valid/c/{shard}/{t // steps}/0/0" for t in times)]
            wanted += [f"reflectance/c/{shard}/{t // steps}/0/0/0" for t in times]
            if absent := [name for name in wanted if not (self.path / name).exists()]:
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
            dates: Indices into `dates(tile)`; None: all.
            window: Row, column and side in pixels; None: the whole tile.

        Returns:
            Reflectance int16 [T,C,H,W], valid bool [T,H,W], labels uint8 [H,W].
        """
        row, column, side = window or (0, 0, max(self.size))
        y, x = slice(row, row + side), slice(column, column + side)
        T = int((self._days[tile] >= 0).sum())
        keep = np.arange(T) if dates is None else dates
        try:
            reflectance = self._reflectance[tile, :T, :, y, x][keep]
            return reflectance, self._valid[tile, :T, y, x][keep], self._label[tile, y, x]
        except BROKEN as error:
            raise _broken(self.path, f"tile {self.ids[tile]} cannot be read, {error}") from None

    def read_valid(self, tile: int) -> NDArray[np.bool_]:
        """The validity of a whole tile, bool [T,H,W], without reading its reflectance."""
        found: NDArray[np.bool_] = self._valid[tile, : len(self.dates(tile))]
        return found
