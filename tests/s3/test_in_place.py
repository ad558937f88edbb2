"""An archive in a bucket: fetched, or read where it lies; a season store in a bucket."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from on_s3 import content, run, workspace
from seaweed import Seaweed
from upath import UPath

from stcln.data.readers.cubes import Cubes
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.lineage import trace
from stcln.study import Dataset
from stcln.workspace import Workspace

Uploaded = Callable[[Seaweed, str], str]
LAYOUTS = ("mtlcc", "mtlcc-geotiff", "pastis", "pastis-r", "cube", "zarr")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def prepared(root: Path, layout: str, source: str, linked: bool) -> Path:
    """The season store made of a source."""
    space = workspace(root, layout, source, linked=linked)
    run(space, "fetch")
    run(space, "prepare", "--season", "2018")
    return space.season("2018")


@pytest.mark.parametrize("layout", ["mtlcc", "cube"])
def test_fetch_brings_the_same_files_from_a_bucket(
    s3: Seaweed, uploaded: Uploaded, archives: Mapping[str, Path], tmp_path: Path, layout: str
) -> None:
    space = workspace(tmp_path, layout, uploaded(s3, layout))
    run(space, "fetch")
    assert content(space.raw) == content(archives[layout])


def test_fetch_unpacks_an_archive_from_a_bucket(s3: Seaweed, archives: Mapping[str, Path], tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "mtlcc"), "zip", archives["mtlcc"]))
    bucket = s3.bucket("packed")
    s3.put(packed, f"{bucket}/mtlcc.zip")
    space = workspace(tmp_path / "work", "mtlcc", f"{bucket}/mtlcc.zip")
    run(space, "fetch")
    assert content(space.raw) == content(archives["mtlcc"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_is_the_same_whether_the_archive_was_fetched_or_read_in_place(
    s3: Seaweed, uploaded: Uploaded, simulated: Callable[[str], Path], tmp_path: Path, layout: str
) -> None:
    address = uploaded(s3, layout)
    local = prepared(tmp_path / "local", layout, str(simulated(layout)), linked=False)
    linked = prepared(tmp_path / "linked", layout, address, linked=True)
    assert content(linked) == content(local)
    raw = tmp_path / "linked/data/raw"
    assert sorted(path.name for path in raw.iterdir()) == ["lineage.json", "linked.json"]
    inputs = json.loads((linked / "lineage.json").read_text())["inputs"]
    assert inputs and all(name.startswith("data/raw/linked.json#") for name in inputs)
    assert trace(linked, Workspace(tmp_path / "linked")).problems == []


@pytest.mark.parametrize("linked", [False, True])
def test_marks_of_empty_folders_are_no_files(
    s3: Seaweed, simulated: Callable[[str], Path], tmp_path: Path, linked: bool
) -> None:
    """Consoles and file managers leave objects of no bytes whose names end in a slash."""
    bucket = s3.bucket(f"marked-{linked}".lower())
    s3.put(simulated("mtlcc"), f"{bucket}/archive")
    for name in ("archive/", "archive/data18/", "archive/empty/"):
        s3.system.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=name, Body=b"")
    store = prepared(tmp_path, "mtlcc", f"{bucket}/archive", linked=linked)
    assert len(SeasonStore.open(store)) == 4
    raw = tmp_path / "data/raw"
    listed = json.loads((raw / "linked.json").read_text())["files"] if linked else content(raw)
    assert sorted(listed) == sorted(content(simulated("mtlcc")))


@pytest.mark.parametrize("season", ["2018", "2019"])
def test_the_real_cubes_are_the_same_from_a_bucket(s3: Seaweed, shared: Path, season: str) -> None:
    bucket = s3.bucket(f"flanders-{season}")
    path = shared / f"real/cubes/flanders_{season}.nc"
    s3.put(path, f"{bucket}/{path.name}")
    dataset = Dataset(source=bucket, layout="cube", season_start="09-01", tile=16)
    here, there = Cubes(path.parent, dataset, season), Cubes(UPath(bucket), dataset, season)
    assert (there.ids, there.bands, there.classes) == (here.ids, here.bands, here.classes)
    for name in here.ids[:4]:
        one, other = here.read(name), there.read(name)
        assert np.array_equal(one.reflectance, other.reflectance) and np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.valid, other.valid) and np.array_equal(one.dates, other.dates)


def test_an_archive_that_changed_in_its_bucket_is_refused(s3: Seaweed, uploaded: Uploaded, tmp_path: Path) -> None:
    address = uploaded(s3, "mtlcc")
    space = workspace(tmp_path, "mtlcc", address, linked=True)
    run(space, "fetch")
    names = s3.system.find(address)
    changed = next(name for name in names if name.endswith("1.tfrecord.gz"))
    s3.system.pipe(changed, bytes(reversed(s3.system.cat(changed))))
    with pytest.raises(BadInput, match=r"1 files are not those that were linked: data18/.*1.tfrecord.gz; run `python"):
        run(space, "prepare", "--season", "2018")
    assert not space.seasons.exists() or not list(space.seasons.iterdir())


def test_a_further_season_in_the_bucket_leaves_the_older_store_as_it_is(
    s3: Seaweed, archives: Mapping[str, Path], tmp_path: Path
) -> None:
    address = s3.bucket("growing") + "/cubes"
    s3.put(archives["cube"], address)
    store = prepared(tmp_path, "cube", address, linked=True)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    late = xr.open_dataset(archives["cube"] / "simulated_2018.nc", mask_and_scale=False).load()
    late["time"] = late.time + np.timedelta64(365, "D")
    late.to_netcdf(tmp_path / "simulated_2019.nc")
    s3.put(tmp_path / "simulated_2019.nc", f"{address}/simulated_2019.nc")
    prepared(tmp_path, "cube", address, linked=True)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_season_store_is_read_in_a_bucket_through_a_bounded_cache(
    s3: Seaweed, archives: Mapping[str, Path], tmp_path: Path
) -> None:
    local = prepared(tmp_path, "pastis", str(archives["pastis"]), linked=False)
    address = s3.bucket("stores") + "/seasons/2018.zarr"
    s3.put(local, address)
    here, there = SeasonStore.open(local), SeasonStore.open(address, cache=10_000)
    assert there.ids == here.ids and there.bands == here.bands
    for tile in range(len(here)):
        for one, other in zip(here.read(tile), there.read(tile), strict=True):
            assert np.array_equal(one, other)
    with pytest.raises(BadInput, match=r"2019.zarr: the season store is missing"):
        SeasonStore.open(address.replace("2018", "2019"))
