"""Broken archives, through the command line: one sentence with file, fault and remedy, status 2, nothing written."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from refusals import Break, Refused, cut, flip, integers, rewrite, study

from stcln.cli import run_verb
from stcln.data.readers import tfrecord
from stcln.data.store import SeasonStore
from stcln.events import Silent
from stcln.storage import read_json
from stcln.workspace import Workspace

RECORD = "data18/3.tfrecord.gz"
S2, TARGET = "DATA_S2/S2_180002.npy", "ANNOTATIONS/TARGET_180002.npy"
METADATA, CUBE = "metadata.geojson", "simulated_2018.nc"


def line(path: Path, was: str, now: str) -> None:
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now, 1))


def array(path: Path, change: Callable[[Any], Any]) -> None:
    np.save(path, change(np.load(path)))


def metadata(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document["features"][1])
    path.write_text(json.dumps(document))


def cube(path: Path, change: Callable[[xr.Dataset], xr.Dataset]) -> None:
    with xr.open_dataset(path, mask_and_scale=False, decode_times=False) as data:
        changed = change(data.load())
    path.unlink()
    changed.to_netcdf(path)


MTLCC: dict[str, tuple[Break, str]] = {
    "a flipped bit": (
        lambda r: flip(r / RECORD, 5000),
        "3.tfrecord.gz … checksum of a record's payload … fetch the file again",
    ),
    "a flipped length": (lambda r: flip(r / RECORD, 2), "3.tfrecord.gz … checksum of a record's length … fetch"),
    "a record cut off": (lambda r: cut(r / RECORD), "3.tfrecord.gz … broken gzip … fetch"),
    "no gzip": (lambda r: (r / RECORD).write_bytes(b"record"), "3.tfrecord.gz … broken gzip … fetch"),
    "an empty record": (lambda r: (r / RECORD).write_bytes(b""), "3.tfrecord.gz … no record … fetch"),
    "a wrong shape": (
        lambda r: rewrite(r / RECORD, x20__shape=(48, 6, 6, 5)),
        "3.tfrecord.gz … x20 … 5) … not … 6) … fetch",
    ),
    "a day that no year has": (
        lambda r: rewrite(r / RECORD, dates__doy=integers(*[400] * 26)),
        "3.tfrecord.gz … dates/doy … 400 … fetch",
    ),
    "an unknown class": (
        lambda r: line(r / "classes.txt", "26|", "27|"),
        "tfrecord.gz … unknown class 26 … add it to classes.txt",
    ),
    "a class list that is none": (lambda r: line(r / "classes.txt", "|", " "), "classes.txt … `id|name` … mend"),
    "no class list": (lambda r: (r / "classes.txt").unlink(), "classes.txt … missing … fetch the archive again"),
    "no geotransforms": (lambda r: (r / "geotransforms.csv").unlink(), "geotransforms.csv … missing … fetch"),
    "a geotransform that is none": (
        lambda r: (r / "geotransforms.csv").write_text("3,600000,10\n"),
        "geotransforms.csv … 3,600000,10 … mend",
    ),
    "a geotransform of NaN": (
        lambda r: (r / "geotransforms.csv").write_text("3,nan,10,0,5e6,0,-10,32632\n"),
        "geotransforms.csv … nan … mend",
    ),
    "a tile without ground": (
        lambda r: (r / "geotransforms.csv").write_text("9,600000,10,0,5e6,0,-10,32632\n"),
        "tfrecord.gz … geotransforms.csv … add",
    ),
    "no lists": (lambda r: shutil.rmtree(r / "tileids"), "tileids … no tile is listed … put the lists"),
    "no season": (lambda r: shutil.rmtree(r / "data18"), "data18 … 2018 … check dataset.root"),
    "no record": (lambda r: [p.unlink() for p in (r / "data18").iterdir()], "no tile … check dataset.root"),
}
PASTIS: dict[str, tuple[Break, str]] = {
    "no labels": (lambda r: (r / TARGET).unlink(), "TARGET_180002.npy … missing … fetch"),
    "an image cut off": (lambda r: cut(r / S2), "S2_180002.npy … not a whole .npy file … fetch"),
    "NaN": (
        lambda r: array(r / S2, lambda a: np.where(a > 3000, np.nan, a)),
        "S2_180002.npy … float64 … NaN … store reflectance",
    ),
    "a wrong shape": (lambda r: array(r / S2, lambda a: a[:, :9]), "S2_180002.npy … shape … 9 … not … 10 … fetch"),
    "too few dates": (lambda r: array(r / S2, lambda a: a[1:]), "S2_180002.npy … shape … not … fetch"),
    "no bands": (lambda r: array(r / S2, lambda a: a[0, 0]), "S2_180002.npy … 2 dimensions … fetch"),
    "labels of another shape": (
        lambda r: array(r / TARGET, lambda a: a[:, 1:]),
        "TARGET_180002.npy … shape … 7 … fetch",
    ),
    "an unknown class": (
        lambda r: array(r / TARGET, lambda a: a + 90),
        "TARGET_180002.npy … unknown class … 9 … dataset.classes",
    ),
    "pickled objects": (
        lambda r: np.save(r / S2, np.array([{}]), allow_pickle=True),
        "S2_180002.npy … not a whole .npy file … fetch",
    ),
    "no metadata": (lambda r: (r / METADATA).unlink(), "metadata.geojson … missing … check dataset.root"),
    "metadata cut off": (lambda r: cut(r / METADATA), "metadata.geojson … not JSON … restore"),
    "metadata that are none": (lambda r: (r / METADATA).write_text("[]"), "metadata.geojson … fetch"),
    "features that are none": (
        lambda r: (r / METADATA).write_text(
            json.dumps({"crs": {"properties": {"name": "EPSG:2154"}}, "features": [{}]})
        ),
        "metadata.geojson … fetch",
    ),
    "a date that is none": (
        lambda r: metadata(r / METADATA, lambda f: f["properties"].update({"dates-S2": {"0": 20181399}})),
        "metadata.geojson … dates-S2 of patch 180002 … 20181399 … mend metadata.geojson",
    ),
    "no fold": (
        lambda r: metadata(r / METADATA, lambda f: f["properties"].pop("Fold")),
        "metadata.geojson … 180002 … Fold … fetch",
    ),
    "no ground": (
        lambda r: metadata(r / METADATA, lambda f: f.pop("geometry")),
        "metadata.geojson … 180002 … geometry … fetch",
    ),
    "ground of NaN": (
        lambda r: metadata(r / METADATA, lambda f: f["geometry"]["coordinates"][0][0][0].__setitem__(0, float("nan"))),
        "metadata.geojson … 180002 … nan … fetch",
    ),
}
CUBES: dict[str, tuple[Break, str]] = {
    "no cube": (lambda r: (r / CUBE).unlink(), "data/raw … 0 cubes of season 2018 … keep one"),
    "a cube cut off": (lambda r: cut(r / CUBE), "simulated_2018.nc … not a NetCDF file … convert it"),
    "no band": (
        lambda r: cube(r / CUBE, lambda d: d.drop_vars([n for n in d if str(n).startswith("B")])),
        "simulated_2018.nc … no band variable … name one",
    ),
    "no labels": (
        lambda r: cube(r / CUBE, lambda d: d.drop_vars([n for n, v in d.items() if "flag_meanings" in v.attrs])),
        "simulated_2018.nc … 0 variables … keep one label",
    ),
    "an unknown class": (
        lambda r: cube(
            r / CUBE, lambda d: d.map(lambda v: v + 90 if "flag_meanings" in v.attrs else v, keep_attrs=True)
        ),
        "simulated_2018.nc … unknown class … 9 … flag_value",
    ),
    "labels of NaN": (
        lambda r: cube(
            r / CUBE,
            lambda d: d.map(lambda v: v.astype(float) * np.nan if "flag_meanings" in v.attrs else v, keep_attrs=True),
        ),
        "simulated_2018.nc … unknown class nan … flag_value",
    ),
    "coordinates of NaN": (
        lambda r: cube(r / CUBE, lambda d: d.assign_coords(x=d.x * np.nan)),
        "simulated_2018.nc … no even grid … resample",
    ),
    "no time": (
        lambda r: cube(r / CUBE, lambda d: d.drop_vars("time")),
        "simulated_2018.nc … no coordinate time … name the dimensions",
    ),
    "times without unit": (
        lambda r: cube(r / CUBE, lambda d: d.assign_coords(time=("time", d.time.values))),
        "simulated_2018.nc … time … units",
    ),
    "no projection": (
        lambda r: cube(
            r / CUBE,
            lambda d: d.drop_attrs(deep=False).assign_attrs(crs="EPSG:0").drop_vars("spatial_ref", errors="ignore"),
        ),
        "simulated_2018.nc … crs … EPSG:0 … set it",
    ),
    "dates of another season": (
        lambda r: cube(r / CUBE, lambda d: d.assign_coords(time=d.time.copy(data=d.time.values + 5000))),
        "simulated_2018.nc … no date between 2017-09-01 … check dataset.season_start",
    ),
    "a cube smaller than a tile": (
        lambda r: cube(r / CUBE, lambda d: d.isel(y=slice(0, 4))),
        "simulated_2018.nc … it has 4 x … dataset.tile is 8 … lower dataset.tile",
    ),
    "two cubes of a season": (
        lambda r: shutil.copy(r / CUBE, r / "again_2018.nc"),
        "data/raw … 2 cubes of season 2018 … keep one",
    ),
}


def workspace(root: Path, archives: Mapping[str, Path], layout: str) -> Workspace:
    study(root, layout)
    shutil.copytree(archives[layout], root / "data/raw")
    return Workspace(root)


@pytest.mark.parametrize("fault", MTLCC)
def test_a_broken_mtlcc_archive_is_refused(archives, tmp_path: Path, refused: Refused, fault: str):
    spoil, wanted = MTLCC[fault]
    spoil(workspace(tmp_path, archives, "mtlcc").raw)
    refused("prepare --season 2018", wanted)


@pytest.mark.parametrize("fault", PASTIS)
def test_a_broken_pastis_archive_is_refused(archives, tmp_path: Path, refused: Refused, fault: str):
    spoil, wanted = PASTIS[fault]
    spoil(workspace(tmp_path, archives, "pastis").raw)
    refused("prepare --season 2018", wanted)


@pytest.mark.parametrize("fault", CUBES)
def test_a_broken_cube_is_refused(archives, tmp_path: Path, refused: Refused, fault: str):
    spoil, wanted = CUBES[fault]
    spoil(workspace(tmp_path, archives, "cube").raw)
    refused("prepare --season 2018", wanted)


def test_dates_unsorted_or_repeated_are_mended_by_a_rule_and_counted(archives, tmp_path: Path):
    """Sorted; of two images of one day every pixel takes the first that is valid there. docs/data.md says so."""
    place = workspace(tmp_path, archives, "mtlcc")
    (payload,) = tfrecord.read(place.raw / RECORD)
    days = np.frombuffer(tfrecord.parse(place.raw / RECORD, payload)["dates/doy"][0], "<i8").tolist()
    spoilt = [days[1], days[0], days[3], days[3], *days[4:]]
    rewrite(place.raw / RECORD, dates__doy=integers(*spoilt))
    run_verb(["prepare", "--season", "2018", "--workspace", str(tmp_path)], Silent())
    found = read_json(place.season("2018") / "validation.json")["findings"]
    assert found["dates unsorted, sorted"]["by_tile"] == {"3": 1}
    assert found["images of a day that has another, merged"]["by_tile"] == {"3": 1}
    store = SeasonStore.open(place.season("2018"))
    kept = store.dates(store.ids.index("3"))
    assert (np.diff(kept) > np.timedelta64(0)).all() and len(kept) == len({day for day in spoilt if day > 0})
