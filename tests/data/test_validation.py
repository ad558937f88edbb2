"""validation.json: counted tile by tile, added up in any order, and marked where the numbers are not those of crops."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from counted import SEASON, Archive, counted
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import BANDS, CLASSES, STUDY, synthetic_tile

from stcln.data.prepare import count as counting
from stcln.data.prepare.count import BINS, Count
from stcln.data.prepare.validation import Tally
from stcln.data.readers.reading import MERGED, UNSORTED
from stcln.data.tile import VOID, Radar, Tile
from stcln.storage import write_json
from stcln.study import Study


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    return [synthetic_tile(number, SEASON) for number in range(10)]


def test_counts_that_went_through_json_give_the_same_bytes_in_any_order(tiles: list[Tile], tmp_path: Path) -> None:
    tiles = [
        replace(tile, radar={"S1A": Radar(np.full((2, 3, 8, 8), -900, np.int16), tile.dates[:2])}) for tile in tiles
    ]
    row = (0, 4, 1, 2, 3, 5, 9, 6, 7, 8)  # side by side, the tested ones between two that train
    tiles = [replace(tile, transform=(10.0, 0.0, 80.0 * row.index(i), 0.0, -10.0, 0.0)) for i, tile in enumerate(tiles)]
    counts = [Count.of(tile, BANDS, {UNSORTED: 1} if number % 3 else {}) for number, tile in enumerate(tiles)]
    written = []
    for seed in range(5):
        random.Random(seed).shuffle(counts)
        tally = Tally(Study.model_validate(STUDY), SEASON, Archive([tile.id for tile in tiles]))
        tally.rejected["t99"] = "broken"
        for count in counts:
            tally.add(Count(**json.loads(json.dumps(asdict(count)))))
        write_json(tmp_path / "validation.json", tally.document())
        written.append((tmp_path / "validation.json").read_bytes())
    assert len(set(written)) == 1


def test_every_number_is_that_of_the_tiles(tiles: list[Tile]) -> None:
    found = counted(tiles)
    valid, images = np.concatenate([t.valid for t in tiles]), np.concatenate([t.reflectance for t in tiles])
    assert (found["tiles"], found["listed_ids"], found["absent_ids"]) == (10, 12, 2)
    assert found["unlisted"] == {"record, in no list": ["y1", "y2", "y3"]}
    assert found["images"] == len(valid) and found["invalid_share"] == pytest.approx(1 - valid.mean())
    days = np.concatenate([t.dates for t in tiles]).astype("datetime64[M]").astype(str)
    for month, share in found["invalid_share_per_month"].items():
        assert share == pytest.approx(1 - valid[days == month].mean(), abs=5e-5)
    unique = np.unique(np.concatenate([t.dates for t in tiles]))
    assert found["dates_per_month"] == {
        str(month): int((unique.astype("datetime64[M]") == month).sum())
        for month in np.unique(unique.astype("datetime64[M]"))
    }
    for band, name in enumerate(BANDS):
        values = images[:, band][valid]
        assert found["reflectance_range"][name] == [values.min(), values.max()]
    for split in ("train", "validation", "test"):
        labels = np.concatenate([t.labels for t in tiles if t.split == split]).ravel()
        counts = {CLASSES[k]: int(n) for k, n in zip(*np.unique(labels, return_counts=True), strict=True)}
        assert found["pixels_per_class"][split] == counts
        assert found["splits"][split] == sum(t.split == split for t in tiles)


def test_ndvi_is_the_median_over_dates_of_the_median_over_clear_pixels(tiles: list[Tile]) -> None:
    tiles = [replace(tiles[0], dates=tiles[0].dates - 365), *tiles[1:]]
    found = counted(tiles)["ndvi"]
    seen: dict[np.datetime64, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for tile in tiles:
        red, nir = (tile.reflectance[:, BANDS.index(name)].astype(float) for name in ("B04", "B08"))
        for day, ndvi, valid in zip(tile.dates, (nir - red) / (nir + red), tile.valid, strict=True):
            seen.setdefault(day, []).append((ndvi, valid, tile.labels))
    wanted: dict[str, dict[str, list[float]]] = {name: {} for name in CLASSES}
    for day, parts in seen.items():
        ndvi, valid, labels = (np.stack(part) for part in zip(*parts, strict=True))
        if valid.mean() <= 0.7 or str(day)[:4] != SEASON:
            continue
        for k, name in enumerate(CLASSES):
            if (used := valid & (labels == k)).any():
                wanted[name].setdefault(str(day)[5:7], []).append(float(np.median(ndvi[used])))
    assert any(valid.mean() <= 0.7 for parts in seen.values() for valid in [np.stack([v for _, v, _ in parts])])
    assert found.keys() == {name for name, months in wanted.items() if months}
    for name, months in found.items():
        exact = {month: np.median(values) for month, values in wanted[name].items()}
        assert months.keys() == exact.keys()
        assert max(abs(months[month] - exact[month]) for month in exact) <= 0.005 + 5e-5


def test_a_season_without_red_and_near_infrared_has_no_ndvi_and_no_leaves(tiles: list[Tile]) -> None:
    found = counted(tiles, bands=("a", "b", "c", "d"))
    assert found["ndvi"] == {} and found["leaves"] == {"pixels": 0, "reflectance": {}}
    assert found["marks"]["bands"] == [] and set(found["reflectance_range"]) == {"a", "b", "c", "d"}


def test_a_season_that_nobody_sees_is_counted(tiles: list[Tile]) -> None:
    found = counted([replace(tile, valid=np.zeros_like(tile.valid)) for tile in tiles])
    assert found["invalid_share"] == 1 and found["reflectance_range"] == {} and found["ndvi"] == {}
    assert found["marks"] == {"bands": [], "values": []}


def test_repairs_are_counted_by_tile_with_the_rule_that_was_followed(tiles: list[Tile]) -> None:
    reader = Archive([tile.id for tile in tiles])
    reader.findings.add("pixels beyond the last whole tile, left out", "cube", 7)
    tally = Tally(Study.model_validate(STUDY), SEASON, reader)
    for number, tile in enumerate(tiles):
        tally.add(Count.of(tile, BANDS, {MERGED: 2, UNSORTED: 1} if number < 3 else {}))
    found = tally.document()["findings"]
    assert found[MERGED]["tiles"] == 3 and found[MERGED]["events"] == 6
    assert found[UNSORTED]["by_tile"] == {"t00": 1, "t01": 1, "t02": 1}
    assert "first that is valid there" in found[MERGED]["rule"] and "ascending" in found[UNSORTED]["rule"]
    assert found["pixels beyond the last whole tile, left out"]["events"] == 7


def test_tiles_of_the_same_images_and_of_the_same_ground_are_named(tiles: list[Tile]) -> None:
    again, moved = replace(tiles[1], id="again"), replace(tiles[2], id="moved", transform=tiles[3].transform)
    changed = replace(moved, reflectance=moved.reflectance + np.int16(1))
    assert counted(tiles)["duplicates"] == {"same_ground": [], "same_images": []}
    assert counted([*tiles, again])["duplicates"] == {
        "same_ground": [["again", "t01"]],
        "same_images": [["again", "t01"]],
    }
    assert counted([*tiles, changed])["duplicates"] == {"same_ground": [["moved", "t03"]], "same_images": []}


def test_a_trial_is_called_one(tiles: list[Tile]) -> None:
    assert counted(tiles)["trial"] is None
    trial = counted(tiles, dataset={**STUDY["dataset"], "layout": "mtlcc", "only": {"limit": 3}})["trial"]
    assert trial == {"limit": 3}


def test_radar_is_counted_by_orbit(tiles: list[Tile]) -> None:
    values = np.full((2, 2, 8, 8), -1500, np.int16)  # the study takes two of an orbit's three bands
    values[0, :, :4], values[1, 1, 0, 0] = -32768, 400
    dates = np.array(["2017-01-03", "2017-02-03"], "datetime64[D]")
    bands = (*BANDS, "S1D_VH", "S1D_VHVV")
    found = counted([replace(tiles[0], radar={"S1D": Radar(values, dates)})], bands)["radar"]["S1D"]
    assert found["images"] == 2 and found["dates_per_month"] == {"2017-01": 1, "2017-02": 1}
    assert found["missing_share"] == 0.25 and found["decibel_x100_range"] == {
        "S1D_VH": [-1500, -1500],
        "S1D_VHVV": [-1500, 400],
    }


def test_what_was_repaired_of_radar_has_the_rule_of_the_optical_images(tiles: list[Tile]) -> None:
    tally = Tally(Study.model_validate(STUDY), SEASON, Archive([tiles[0].id]))
    tally.add(Count.of(tiles[0], BANDS, {UNSORTED: 1, f"S1A: {UNSORTED}": 1}))
    found = tally.document()["findings"]
    assert found[f"S1A: {UNSORTED}"]["rule"] == found[UNSORTED]["rule"]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), T=st.integers(1, 9), H=st.integers(1, 40), W=st.integers(1, 5),
    at_once=st.integers(1, 600),
)  # fmt: skip
def test_every_valid_labelled_pixel_is_in_its_bin_once(seed: int, T: int, H: int, W: int, at_once: int) -> None:
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2017-05-01") + np.arange(T)
    labels = rng.choice(np.array([0, 3, 9, VOID], np.uint8), (H, W))
    images = rng.integers(-32767, 32767, (T, 4, H, W), dtype=np.int16)
    valid = rng.random((T, H, W)) < rng.random()
    tile = Tile("t", "train", images, dates, valid, labels, "EPSG:32632", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0))
    with mock.patch.object(counting, "AT_ONCE", at_once):
        count = Count(**json.loads(json.dumps(asdict(Count.of(tile, BANDS, {})))))
    crop, day, level, pixels = count.histogram()
    red, nir = images[:, 2].astype(np.float32), images[:, 3].astype(np.float32)
    wanted: dict[tuple[int, int, int], int] = {}
    ndvi = (nir - red) / np.maximum(nir + red, 1)
    bins = np.clip((ndvi + 1) * (BINS / 2), 0, BINS - 1).astype(int)
    for t, y, x in np.argwhere(valid & (labels != VOID)):
        key = (int(labels[y, x]), int(t), int(bins[t, y, x]))
        wanted[key] = wanted.get(key, 0) + 1
    places = zip((np.array(count.crops, int)[crop]).tolist(), day.tolist(), level.tolist(), strict=True)
    assert dict(zip(places, pixels.tolist(), strict=True)) == wanted
    assert sum(count.seen) == valid.sum() and sum(count.classes.values()) == H * W
    leaves = (ndvi > 0.6) & valid
    best = int(leaves.sum(axis=(1, 2)).argmax())
    assert count.green == leaves[best].sum()
    assert count.spectrum == images[best][:, leaves[best]].sum(axis=1, dtype=np.int64).tolist()
