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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from stcln.data.tile import VOID, Tile
from stcln.errors import BadInput

FORMAT = 1
CHUNK_DATES, SHARD_DATES = 32, 128
CHUNK_SIDE = 48  # largest side of a chunk, so that a window does not read a whole patch
SHARD_BYTES = 1 << 28  # DVC slows with the number of files, writing holds one shard in memory

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


class _Moments:
    """Mean and standard deviation per band, from exact integer sums."""

    def __init__(self, bands: int) -> None:
        self.count, self.sums, self.squares = 0, [0] * bands, [0] * bands

    def add(self, tile: Tile) -> None:
        """Count the valid pixels of a tile."""
        self.count += int(tile.valid.sum())
        for band in range(len(self.sums)):
            values = tile.reflectance[:, band][tile.valid].astype(np.int64)
            self.sums[band] += int(values.sum())
            self.squares[band] += int((values * values).sum())

    def attributes(self) -> dict[str, Any]:
        """The store's attributes; null where nothing was counted, as in a season that is only tested on."""
        if not self.count:
            return {"band_mean": None, "band_std": None}
        mean = [total / self.count for total in self.sums]
        variance = [total / self.count - m * m for total, m in zip(self.squares, mean, strict=True)]
        return {"band_mean": mean, "band_std": [max(v, 0.0) ** 0.5 for v in variance]}


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
    arrays = _Arrays(group, first, np.datetime64(header.start))
    moments = _Moments(len(header.bands))
    for batch in _batches(first, stream, arrays.batch):
        arrays.append(batch)
        for tile in batch:
            if trained_on(tile):
                moments.add(tile)
    arrays.finish(header)
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


class _Arrays:
    """The arrays of a store that is being written; they grow with every batch of tiles."""

    def __init__(self, group: zarr.Group, first: Tile, start: np.datetime64) -> None:
        _, C, H, W = first.reflectance.shape
        self.group, self.start = group, start
        self.batch = max(1, SHARD_BYTES // (2 * CHUNK_DATES * 2 * C * H * W))
        self.days: list[NDArray[np.int32]] = []
        self.transforms: list[Sequence[float]] = []
        self.ids: list[str] = []
        self.splits: list[str] = []
        h, w = _chunk_side(H), _chunk_side(W)
        self.reflectance = self._grow("reflectance", "int16", (C, H, W), (C, h, w), ("time", "band", "y", "x"))
        self.valid = self._grow("valid", "bool", (H, W), (h, w), ("time", "y", "x"))
        self.label = self._grow("label", "uint8", (H, W), (h, w), ("y", "x"))

    def _grow(self, name: str, kind: str, shape: tuple[int, ...], chunk: tuple[int, ...], dims: tuple[str, ...]) -> Any:
        timed = dims[0] == "time"
        return self.group.create_array(
            name, dtype=kind, shape=(0, 0, *shape) if timed else (0, *shape),
            chunks=(1, CHUNK_DATES, *chunk) if timed else (1, *chunk),
            shards=(self.batch, SHARD_DATES, *shape) if timed else (self.batch, *shape),
            compressors=ZstdCodec(level=5), fill_value=0, dimension_names=("tile", *dims),
        )  # fmt: skip

    def append(self, tiles: Sequence[Tile]) -> None:
        """Write a batch of tiles behind those that stand."""
        at, end, T = len(self.ids), len(self.ids) + len(tiles), max(len(tile.dates) for tile in tiles)
        for array in (self.reflectance, self.valid):
            array.resize((end, max(T, array.shape[1]), *array.shape[2:]))
        self.label.resize((end, *self.label.shape[1:]))
        self.label[at:end] = np.stack([tile.labels for tile in tiles])
        for name in ("reflectance", "valid"):
            array = getattr(self, name)
            values = np.zeros((len(tiles), T, *array.shape[2:]), array.dtype)
            for row, tile in zip(values, tiles, strict=True):
                row[: len(tile.dates)] = getattr(tile, name)
            array[at:end, :T] = values
        for tile in tiles:
            self.days.append((tile.dates - self.start).astype(np.int32))
            self.transforms.append(tile.transform)
            self.ids.append(tile.id)
            self.splits.append(tile.split)

    def finish(self, header: Header) -> None:
        """Write what is small: dates, transforms and names."""
        days = np.full((len(self.days), max(map(len, self.days))), -1, np.int32)
        for row, known in zip(days, self.days, strict=True):
            row[: len(known)] = known
        units = {"units": f"days since {header.start}", "calendar": "proleptic_gregorian", "_FillValue": -1}
        self._put("date", days, ("tile", "time"), -1, units)
        self._put("transform", np.array(self.transforms, np.float64), ("tile", "coefficient"))
        for name, values in (("tile", self.ids), ("split", self.splits), ("band", header.bands)):
            self._put(name, np.array(values, dtype=np.dtypes.StringDType()), ("band" if name == "band" else "tile",))
        self.reflectance.attrs.update(
            {"units": "1", "long_name": "surface reflectance x 10,000", "coordinates": "split"}
        )
        self.label.attrs.update({"long_name": "class index into class_names, 255 outside every class", "void": VOID})

    def _put(
        self, name: str, values: NDArray[Any], dims: tuple[str, ...], fill: int | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        array = self.group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=values.shape, fill_value=fill,
            dimension_names=dims, attributes=attributes, compressors=ZstdCodec(level=5),
        )  # fmt: skip
        array[...] = values


def _chunk_side(side: int) -> int:
    """The largest divisor of a tile's side that is no larger than CHUNK_SIDE."""
    return max(part for part in range(1, min(side, CHUNK_SIDE) + 1) if side % part == 0)


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
            return cls(path, zarr.open_group(path, mode="r"))
        except (KeyError, ValueError, OSError) as error:
            raise BadInput(path, f"not a season store: {error}", f"run `prepare --season {path.stem}` again") from None

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
        reflectance = self._reflectance[tile, :T, :, y, x][keep]
        return reflectance, self._valid[tile, :T, y, x][keep], self._label[tile, y, x]

    def read_valid(self, tile: int) -> NDArray[np.bool_]:
        """The validity of a whole tile, bool [T,H,W], without reading its reflectance."""
        found: NDArray[np.bool_] = self._valid[tile, : len(self.dates(tile))]
        return found
