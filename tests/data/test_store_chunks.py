"""The chunks of a season store: coded as Zarr codes them, in files that Zarr reads; radar on dates of its own."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from stcln.data import store
from stcln.data.store import Header, SeasonStore, arrays
from stcln.data.tile import NODATA, Radar, Tile
from stcln.errors import BadInput

OPTICAL, RADAR = ("B04", "B08"), ("S1A_VV", "S1A_VH", "S1D_VV")
START = np.datetime64("2018-09-01")


def days(*numbers: int) -> np.ndarray:
    return START + np.array(numbers, "timedelta64[D]")


def tile(name: str, T: int, sides: tuple[int, int] = (37, 37), radar: dict[str, Radar] | None = None) -> Tile:
    """A tile whose chunks hold other values than 0."""
    rng, (H, W) = np.random.default_rng(int(name)), sides
    return Tile(
        id=name, split="train", reflectance=rng.integers(1, 9000, (T, 2, H, W)).astype(np.int16),
        dates=days(*np.sort(rng.choice(400, T, replace=False)).tolist()), valid=rng.random((T, H, W)) > 0.3,
        labels=rng.integers(1, 3, (H, W)).astype(np.uint8), crs="EPSG:32631",
        transform=(10.0, 0.0, 500000.0 + 60 * int(name), 0.0, -10.0, 5600000.0), radar=radar or {},
    )  # fmt: skip


def header(bands: tuple[str, ...] = OPTICAL) -> Header:
    return Header(
        season="2019", start=date(2018, 9, 1), layout="pastis", bands=bands, classes=("none", "maize", "wheat"),
        ignore=(0,), simulated=False,
    )  # fmt: skip


def written(path: Path, tiles: list[Tile], bands: tuple[str, ...] = OPTICAL) -> Path:
    store.write(path, tiles, header(bands), lambda one: one.split == "train")
    return path


def chunks_of(array: Any, shard: Path) -> dict[tuple[int, ...], bytes]:
    """The chunks of a shard by their place, from its index as the Zarr specification has it."""
    grid = tuple(a // b for a, b in zip(array.shards, array.chunks, strict=True))
    raw, size = shard.read_bytes(), 16 * int(np.prod(grid))
    index = np.frombuffer(raw[-size - 4 : -4], "<u8").reshape(*grid, 2).astype(object)
    places = [place for place in np.ndindex(grid) if index[place][0] != 2**64 - 1]
    return {place: raw[index[place][0] : sum(index[place])] for place in places}


def test_every_chunk_has_the_bytes_that_zarr_itself_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SHARD_BYTES", 64 * 2 * 2 * 37 * 37 * 2)  # two tiles a shard
    tiles = [tile(str(n), T) for n, T in enumerate([5, 65, 16])]
    ours = zarr.open_group(written(tmp_path / "2019.zarr", tiles), mode="r")
    for name in ("reflectance", "valid", "label"):
        array: Any = ours[name]
        theirs = zarr.create_array(
            tmp_path / name, shape=array.shape, dtype=array.dtype, chunks=array.chunks, shards=array.shards,
            compressors=array.compressors, fill_value=array.fill_value,
        )  # fmt: skip
        theirs[...] = array[...]
        shards = sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name / "c").rglob("*/0/*"))
        assert len([shard for shard in shards if (tmp_path / name / shard).is_file()]) == 2
        for shard in (shard for shard in shards if (tmp_path / name / shard).is_file()):
            mine = tmp_path / "2019.zarr" / name / shard
            assert chunks_of(array, mine) == chunks_of(theirs, tmp_path / name / shard)


def test_zarr_reads_every_tile_padded_with_nothing(tmp_path: Path) -> None:
    tiles = [tile("1", 3), tile("2", 20)]
    group: Any = zarr.open_group(written(tmp_path / "2019.zarr", tiles), mode="r")
    for at, one in enumerate(tiles):
        T = len(one.dates)
        assert np.array_equal(group["reflectance"][at, :T], one.reflectance) and not group["reflectance"][at, T:].any()
        assert np.array_equal(group["valid"][at, :T], one.valid) and not group["valid"][at, T:].any()
        assert np.array_equal(group["label"][at], one.labels)


@pytest.mark.parametrize("sides", [(1, 1), (31, 33), (128, 24), (100, 50)])
def test_a_tile_of_any_sides_comes_back(tmp_path: Path, sides: tuple[int, int]) -> None:
    one = tile("1", 17, sides)
    reflectance, valid, labels = SeasonStore.open(written(tmp_path / "2019.zarr", [one])).read(0)
    H, W = sides
    assert np.array_equal(reflectance, one.reflectance)
    assert np.array_equal(valid, one.valid) and np.array_equal(labels, one.labels) and labels.shape == (H, W)


def test_chunks_of_a_tile_lie_side_by_side_and_all_dates_of_a_place_too(tmp_path: Path) -> None:
    group: Any = zarr.open_group(written(tmp_path / "2019.zarr", [tile("1", 130), tile("2", 5)]), mode="r")
    array, shard = group["reflectance"], tmp_path / "2019.zarr/reflectance/c/0/0/0/0/0"
    found, raw = chunks_of(array, shard), shard.read_bytes()
    wanted = [(0, t, 0, y, x) for y in range(3) for x in range(3) for t in range(3)]
    wanted += [(1, 0, 0, y, x) for y in range(3) for x in range(3)]
    assert sorted(found) == sorted(wanted), "no chunk holds only dates that a tile does not have"
    assert raw.startswith(b"".join(found[place] for place in wanted))


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    shard = written(tmp_path / "2019.zarr", [tile("1", 3, (8, 8))]) / "reflectance/c/0/0/0/0/0"
    whole = shard.read_bytes()
    for at in range(0, len(whole), len(whole) // 23):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(BadInput, match="not a season store"):
            SeasonStore.open(tmp_path / "2019.zarr").read(0)


def with_radar(name: str = "1") -> Tile:
    """Optical dates 10, 20, 30, 40; ascending radar on 20 and 29, descending on 35, of 8 x 8 pixels."""
    ascending = np.full((2, 2, 8, 8), -1200, np.int16)
    ascending[1] = -900
    ascending[1, 0, 3, 4] = NODATA
    radar = {
        "S1D": Radar(np.full((1, 1, 8, 8), -1000, np.int16), days(35)),
        "S1A": Radar(ascending, days(20, 29)),
    }
    return dataclasses.replace(tile(name, 4, (8, 8), radar), dates=days(10, 20, 30, 40))


def test_radar_at_a_date_is_the_latest_image_that_is_not_after_it(tmp_path: Path) -> None:
    season = SeasonStore.open(written(tmp_path / "2019.zarr", [with_radar()], (*OPTICAL, *RADAR)))
    images = season.read(0)[0]
    assert season.bands == (*OPTICAL, *RADAR) and images.shape == (4, 5, 8, 8) and images.dtype == np.int16
    assert np.array_equal(images[:, :2], with_radar().reflectance)
    mean = np.rint(season.mean).astype(int).tolist()
    assert images[:, 2, 0, 0].tolist() == [mean[2], -1200, -900, -900], (
        "none yet, the day's own, the latest, the latest"
    )
    assert images[:, 4, 0, 0].tolist() == [mean[4], mean[4], mean[4], -1000]
    assert images[:, 2, 3, 4].tolist() == [mean[2], -1200, mean[2], mean[2]], "nodata"
    assert np.array_equal(season.read(0, np.array([1, 3]), (2, 3, 4))[0], images[[1, 3], :, 2:6, 3:7])


def test_what_a_radar_shows_later_changes_nothing_before(tmp_path: Path) -> None:
    one = with_radar()
    late = {orbit: Radar(found.values.copy(), found.dates) for orbit, found in one.radar.items()}
    late["S1A"].values[1] += 500
    late["S1D"].values[0] += 500
    tiles = [dataclasses.replace(one, split="test"), dataclasses.replace(one, id="2", split="test", radar=late)]
    season = SeasonStore.open(written(tmp_path / "2019.zarr", tiles, (*OPTICAL, *RADAR)))
    first, second = season.read(0)[0], season.read(1)[0]
    assert np.array_equal(first[:2], second[:2]) and not np.array_equal(first[2:], second[2:])


def test_radar_has_statistics_of_its_own_pixels_without_nodata(tmp_path: Path) -> None:
    season = SeasonStore.open(written(tmp_path / "2019.zarr", [with_radar()], (*OPTICAL, *RADAR)))
    values = with_radar().radar["S1A"].values[:, 0]
    seen = values[values != NODATA].astype(float)
    assert np.isclose(season.mean[2], seen.mean()) and np.isclose(season.std[2], seen.std())
    assert season.mean[3] == -1050 and season.std[4] == 0


def test_a_tile_without_radar_among_others_is_filled_with_the_mean(tmp_path: Path) -> None:
    bare = dataclasses.replace(with_radar("2"), radar={})
    season = SeasonStore.open(written(tmp_path / "2019.zarr", [with_radar(), bare], (*OPTICAL, *RADAR)))
    assert (season.read(1)[0][:, 2:] == np.rint(season.mean[2:])[:, None, None]).all()
