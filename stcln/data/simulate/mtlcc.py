"""Writes simulated seasons as the MTLCC archive has them: a TFRecord a tile and season, ids and folds in text files."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers import tfrecord
from stcln.data.simulate.crops import MTLCC
from stcln.data.simulate.fields import FOLDS, PIXEL, Place, Region
from stcln.data.simulate.scene import Season, View
from stcln.data.simulate.spectra import BANDS

CLASSES = (
    "0|unknown", "1|sugar beet", "2|summer oat", "3|meadow", "5|rape", "8|hop", "9|winter spelt", "12|winter triticale",
    "13|beans", "15|peas", "16|potatoe", "17|soybeans", "19|asparagus", "22|winter wheat", "23|winter barley",
    "24|winter rye", "25|summer barley", "26|maize",
)  # fmt: skip
STACKS = {
    "x10": (1, ("B04", "B03", "B02", "B08")),
    "x20": (2, ("B05", "B06", "B07", "B8A", "B11", "B12")),
    "x60": (6, ("B01", "B09", "B10")),
}
EPSG = 32632
WEST, NORTH = 690_000, 5_346_000  # metres
EVAL = FOLDS - 1  # this fold of blocks is `eval`; each other one is the test of one `train_fold`, `test_fold` pair


def write(root: Path, ground: Region, seasons: Iterable[Season], done: Callable[[], None]) -> None:
    """Write the tree of the archive's lowest directory; `done` is called after every tile."""
    write_lists(root, ground)
    geotransforms = [",".join(map(str, line)) for line in map(_geotransform, ground.places)]
    (root / "geotransforms.csv").write_text("\n".join(geotransforms) + "\n")
    for season in seasons:
        _section(root, season)
        for place in ground.places:
            _tile(root, season, season.view(place))
            done()


def write_lists(target: Path, ground: Region) -> None:
    """Write classes.txt and the lists of tile ids, as both layouts of MTLCC have them."""
    (target / "tileids").mkdir(parents=True)
    (target / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    lists = {"eval": [p.number for p in ground.places if p.fold == EVAL]}
    for fold in range(EVAL):
        lists[f"test_fold{fold}"] = [p.number for p in ground.places if p.fold == (fold + EVAL - 1) % EVAL]
        lists[f"train_fold{fold}"] = [p.number for p in ground.places if p.fold not in (EVAL, (fold + EVAL - 1) % EVAL)]
    for name, numbers in lists.items():
        (target / f"tileids/{name}.tileids").write_text("".join(f"{number}\n" for number in numbers))


def _section(target: Path, season: Season) -> None:
    """Add a season's section to dataset.ini; records hold as many dates as the season has, short tiles are padded."""
    section = {
        "tiletable": f"tiles{season.ground.size * PIXEL}", "datadir": f"data{season.year % 100:02d}",
        "pix10": season.ground.size, "nobs": len(season.dates), "nbands10": 4, "nbands20": 6, "nbands60": 3,
    }  # fmt: skip
    with (target / "dataset.ini").open("a") as stream:
        stream.write(f"[{season.year}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items()) + "\n")


def _tile(target: Path, season: Season, view: View) -> None:
    """Write one tile: int64 arrays [T,H,W,C] of top-of-atmosphere reflectance x 10,000, padded dates with day 0."""
    stacks, dates, raw = recorded(view)
    pad = len(season.dates) - len(dates)
    features: dict[str, bytes | list[int]] = {}
    for name, stack in stacks.items():
        _put(features, name, np.pad(stack, ((0, pad), (0, 0), (0, 0), (0, 0))))
    _put(features, "labels", np.broadcast_to(raw, (len(season.dates), *raw.shape)))
    _put(features, "dates/doy", np.pad(np.array([day.timetuple().tm_yday for day in dates.astype(object)]), (0, pad)))
    _put(features, "dates/year", np.pad(dates.astype("datetime64[Y]").astype(np.int64) + 1970, (0, pad)))
    directory = target / f"data{season.year % 100:02d}"
    tfrecord.write(directory / f"{view.place.number}.tfrecord.gz", [tfrecord.encode(features)])


def recorded(view: View) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.datetime64], NDArray[np.int64]]:
    """What both layouts hold of a tile.

    Returns:
        Reflectance x 10,000 by resolution [T,H,W,C], its dates [T], raw class ids [H,W].
    """
    whole = view.seen.all((1, 2))  # the format knows no nodata: a date that saw a part of the tile is left out
    light = view.toa[whole]
    stacks = {
        name: _stack(light, factor, [BANDS.index(band) for band in bands]) for name, (factor, bands) in STACKS.items()
    }
    return stacks, view.dates[whole], np.array(MTLCC, np.int64)[view.crop]


def _geotransform(place: Place) -> tuple[int, ...]:
    west, north = corner(place)
    return place.number, west, PIXEL, 0, north, 0, -PIXEL, EPSG


def corner(place: Place) -> tuple[int, int]:
    """West and north of a tile, metres in `EPSG`."""
    return WEST + place.col * PIXEL, NORTH - place.row * PIXEL


def _stack(light: NDArray[np.float32], factor: int, bands: list[int]) -> NDArray[np.int64]:
    T, _, H, W = light.shape
    cells = light[:, bands].reshape(T, len(bands), H // factor, factor, W // factor, factor).mean((3, 5))
    return np.asarray(np.rint(np.moveaxis(cells, 1, -1) * 1e4), np.int64)


def _put(features: dict[str, bytes | list[int]], name: str, array: NDArray[np.int64]) -> None:
    key, shape = (f"{name}/data", f"{name}/shape") if "/" not in name else (name, "dates/shape")
    features[key] = np.ascontiguousarray(array, "<i8").tobytes()
    features[shape] = list(array.shape)
