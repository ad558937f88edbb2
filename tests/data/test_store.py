"""The season store."""

import dataclasses
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stcln.data import store
from stcln.data.store import Header, SeasonStore, arrays
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.storage import digest

HEADER = Header(
    season="2019", start=date(2018, 9, 1), layout="cube", bands=("B04", "B08"),
    classes=("background", "maize"), ignore=(0,), simulated=False,
)  # fmt: skip


def tile(name: str, T: int = 4, split: str = "train", side: int = 6) -> Tile:
    rng = np.random.default_rng(int(name))
    days = np.sort(rng.choice(400, T, replace=False))
    return Tile(
        id=name, split=split, reflectance=rng.integers(1, 9000, (T, 2, side, side)).astype(np.int16),
        dates=np.datetime64("2018-09-01") + days.astype("timedelta64[D]"), valid=rng.random((T, side, side)) > 0.3,
        labels=rng.choice(np.array([0, 1, 255], np.uint8), (side, side)), crs="EPSG:32631",
        transform=(10.0, 0.0, 500000.0 + 60 * int(name), 0.0, -10.0, 5600000.0),
    )  # fmt: skip


TILES = [tile("3", 5), tile("1", 2, "test"), tile("2", 4)]


def written(path: Path, tiles: Sequence[Tile] = TILES) -> Path:
    store.write(path, tiles, HEADER, lambda t: t.split == "train")
    return path


def test_a_tile_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    season = SeasonStore.open(written(tmp_path / "2019.zarr"))
    assert (len(season), season.ids, season.splits) == (3, ["3", "1", "2"], ["train", "test", "train"])
    assert (season.season, season.start, season.crs, season.size) == ("2019", date(2018, 9, 1), "EPSG:32631", (6, 6))
    assert (season.bands, season.classes, season.ignore, season.simulated) == (
        ("B04", "B08"), ("background", "maize"), (0,), False,
    )  # fmt: skip
    for i, one in enumerate(TILES):
        reflectance, valid, labels = season.read(i)
        assert np.array_equal(reflectance, one.reflectance) and reflectance.dtype == np.int16
        assert np.array_equal(valid, one.valid) and np.array_equal(labels, one.labels)
        assert np.array_equal(season.dates(i), one.dates) and season.transform(i) == one.transform


def test_a_window_at_some_dates_is_the_same_part_of_the_tile(tmp_path: Path) -> None:
    season = SeasonStore.open(written(tmp_path / "2019.zarr"))
    reflectance, valid, labels = season.read(0, np.array([1, 4]), (2, 1, 3))
    assert np.array_equal(reflectance, TILES[0].reflectance[[1, 4], :, 2:5, 1:4])
    assert np.array_equal(valid, TILES[0].valid[[1, 4], 2:5, 1:4])
    assert np.array_equal(labels, TILES[0].labels[2:5, 1:4])


def test_xarray_opens_it_without_a_warning_and_decodes_the_dates(tmp_path: Path) -> None:
    path = written(tmp_path / "2019.zarr")
    (path / "validation.json").write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xr.open_zarr(path).load()
    assert found.reflectance.dims == ("tile", "time", "band", "y", "x") and found.reflectance.dtype == np.int16
    assert list(found.tile.values) == ["3", "1", "2"] and list(found.band.values) == ["B04", "B08"]
    assert np.array_equal(found.date.values[1, :2].astype("M8[D]"), TILES[1].dates)
    assert np.isnat(found.date.values[1, 2:]).all() and not found.reflectance.values[1, 2:].any()
    assert found.attrs["class_names"] == ["background", "maize"] and found.attrs["crs"] == "EPSG:32631"


def test_the_same_tiles_give_the_same_bytes(tmp_path: Path) -> None:
    assert digest(written(tmp_path / "a.zarr")) == digest(written(tmp_path / "b.zarr"))


def test_statistics_count_only_the_valid_pixels_of_tiles_trained_on(tmp_path: Path) -> None:
    season = SeasonStore.open(written(tmp_path / "2019.zarr"))
    seen = np.concatenate([np.moveaxis(t.reflectance, 1, -1)[t.valid] for t in (TILES[0], TILES[2])]).astype(float)
    assert np.allclose(season.mean, seen.mean(0)) and np.allclose(season.std, seen.std(0))


def test_a_season_without_training_tiles_has_no_statistics(tmp_path: Path) -> None:
    assert np.isnan(SeasonStore.open(written(tmp_path / "2019.zarr", TILES[1:2])).mean).all()


def test_many_tiles_make_few_files_and_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SHARD_BYTES", 64 * 2 * 2 * 36 * 4)  # four tiles a shard
    tiles = [tile(str(n), T) for n, T in enumerate([2, 140, 3, 4, 5, 6, 7, 30, 2, 150])]
    season = SeasonStore.open(written(tmp_path / "2019.zarr", tiles))
    assert all(np.array_equal(season.read(i)[0], one.reflectance) for i, one in enumerate(tiles))
    assert len(list((season.path / "label").rglob("c/*/*/*"))) == 3
    assert len([p for p in (season.path / "reflectance").rglob("*") if p.is_file()]) == 1 + 3


def test_a_broken_source_of_tiles_leaves_an_error_and_no_store_is_opened(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tile to write"):
        store.write(tmp_path / "empty.zarr", [], HEADER, lambda _: True)
    with pytest.raises(BadInput, match=r"2019.zarr: the season store is missing; run `prepare --season 2019`"):
        SeasonStore.open(tmp_path / "2019.zarr")
    (tmp_path / "2018.zarr").mkdir()
    with pytest.raises(BadInput, match="not a season store"):
        SeasonStore.open(tmp_path / "2018.zarr")


def test_reading_does_not_change_a_tile_that_has_one_date(tmp_path: Path) -> None:
    one = dataclasses.replace(tile("7", 1), split="test")
    season = SeasonStore.open(written(tmp_path / "2019.zarr", [one]))
    assert season.read(0)[0].shape == (1, 2, 6, 6)
