"""What every reader of an archive holds to, whatever the layout."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from stcln.data.prepare.tiles import READERS
from stcln.data.readers.reading import Findings, Reader, tidy
from stcln.data.simulate import archive
from stcln.data.tile import Radar, Tile
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.study import Dataset, Only

MADE = {"mtlcc": "mtlcc", "mtlcc-geotiff": "mtlcc-geotiff", "pastis": "pastis-r"}
FOLD = {"mtlcc": 1, "mtlcc-geotiff": 1, "pastis": 2}

Open = Callable[..., Reader]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A simulated archive by layout, read only."""
    root = tmp_path_factory.mktemp("readers")
    for layout, made in MADE.items():
        archive(root / layout, made, ["2018"], 6, 12, 1, Silent())
    return {layout: root / layout for layout in MADE}


@pytest.fixture(params=MADE)
def opened(request: pytest.FixtureRequest, roots: Mapping[str, Path]) -> Open:
    """A function: a layout's reader over its archive, or over a copy elsewhere."""
    layout = request.param

    def make(root: Any = None, **dataset: Any) -> Reader:
        start = "09-01" if layout == "pastis" else "01-01"
        described = Dataset(source="x", layout=layout, season_start=start, **dataset)
        return READERS[layout](root or roots[layout], described, "2018")

    make.layout, make.root = layout, roots[layout]  # type: ignore[attr-defined]
    return make


@pytest.fixture
def bucket() -> Iterator[UPath]:
    """A place that is no directory of this machine."""
    place = UPath("memory://archive")
    yield place
    place.fs.store.clear()
    place.fs.pseudo_dirs[:] = [""]


def same(one: Tile, other: Tile) -> bool:
    return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(Tile))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Radar):
        return np.array_equal(one.values, other.values) and np.array_equal(one.dates, other.dates)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


def test_a_tile_is_the_same_whatever_was_read_before_it(opened: Open) -> None:
    reader, ids = opened(), list(opened().ids)
    forth = [reader.read(tile) for tile in ids]
    back = [opened().read(tile) for tile in reversed(ids)]
    assert all(same(one, other) for one, other in zip(forth, reversed(back), strict=True))


def test_a_reader_travels_to_another_process(opened: Open) -> None:
    reader = opened()
    there = pickle.loads(pickle.dumps(reader))
    assert there.ids == reader.ids and same(there.read(reader.ids[0]), reader.read(reader.ids[0]))


def test_an_archive_in_a_bucket_is_read_as_one_on_disk(opened: Open, bucket: UPath) -> None:
    root: Path = opened.root  # type: ignore[attr-defined]
    for path in root.rglob("*"):
        if path.is_file():
            (bucket / path.relative_to(root).as_posix()).write_bytes(path.read_bytes())
    here, there = opened(), opened(bucket)
    assert (there.ids, there.bands, there.absent) == (here.ids, here.bands, here.absent)
    assert all(same(there.read(tile), here.read(tile)) for tile in here.ids)
    assert [path.name for path in there.sources] == [path.name for path in here.sources]


def test_what_a_reader_names_as_its_sources_is_there(opened: Open) -> None:
    assert all(path.exists() for path in opened().sources)


def test_a_trial_reads_the_same_tiles_as_the_whole(opened: Open) -> None:
    whole = opened()
    some = opened(only=Only(tiles=tuple(whole.ids[1:3])))
    assert list(some.ids) == list(whole.ids[1:3]) and not any(some.absent.values())
    assert all(same(some.read(tile), whole.read(tile)) for tile in some.ids)


def test_a_fold_and_a_limit_narrow_a_trial(opened: Open) -> None:
    fold = FOLD[opened.layout]  # type: ignore[attr-defined]
    reader = opened(only=Only(fold=fold))
    splits = {tile: reader.read(tile).split.split() for tile in reader.ids}
    assert len(splits) > 0 and all(any(n.endswith(str(fold)) or n == "eval" for n in s) for s in splits.values())
    assert set(opened(only=Only(fold=fold, limit=1)).ids) < set(opened().ids)


def test_arrays_are_ready_to_be_stored(opened: Open) -> None:
    reader = opened()
    for name in reader.ids:
        tile = reader.read(name)
        T, C, H, W = tile.reflectance.shape
        assert tile.reflectance.dtype == np.int16 and tile.valid.shape == (T, H, W) and tile.valid.dtype == bool
        assert tile.labels.shape == (H, W) and tile.labels.dtype == np.uint8 and len(tile.transform) == 6
        assert (np.diff(tile.dates) > np.timedelta64(0)).all() and len(tile.dates) == T
        assert C + sum(radar.values.shape[1] for radar in tile.radar.values()) == len(reader.bands)


def test_images_of_another_year_are_not_taken_as_a_season_though_some_lie_in_its_span() -> None:
    """A GeoTIFF tree's `data/` has no year in its name: 2018's first months lie within the 475 days of 2017."""
    dates = np.arange("2018-01-05", "2018-12-20", 7, dtype="datetime64[D]")
    series = (dates, np.ones((len(dates), 1, 2, 2), np.int16), np.ones((len(dates), 2, 2), bool))
    assert len(tidy("a", "a", date(2018, 1, 1), series, Findings())[0]) == len(dates)
    for year, known in ((2017, dates), (2017, dates[:16])):
        with pytest.raises(BadInput, match=r"middle one of its dates is 2018.*of another season.*check"):
            kept = slice(len(known))
            tidy("a", "a", date(year, 1, 1), (known, *(part[kept] for part in series[1:])), Findings())
