"""Season numbers that look wrong are marked, and those of real crops are not; distances of the roles are exact."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from counted import Archive, counted
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import STUDY, synthetic_tile

from stcln.data.prepare import marks, prepare
from stcln.data.prepare.count import Count
from stcln.data.prepare.distance import Ground, separation
from stcln.data.prepare.validation import Tally
from stcln.data.simulate import archive
from stcln.data.store import SeasonStore
from stcln.data.tile import VOID, Tile
from stcln.events import Silent, Value
from stcln.storage import read_json
from stcln.workspace import Workspace

Stores = dict[tuple[str, str], SeasonStore]
GREEN = {"pixels": 10_000, "reflectance": {"B03": 600, "B04": 400, "B05": 1000, "B07": 3700, "B08": 4000}}
CROPS = {
    "meadow": {"01": 0.6, "05": 0.85, "07": 0.7, "08": 0.75},
    "winter wheat": {"01": 0.5, "05": 0.88, "07": 0.3, "08": 0.2},
    "maize": {"01": 0.8, "05": 0.3, "07": 0.8, "08": 0.85},
}


def said(ndvi: Mapping[str, Any] = CROPS, leaves: Mapping[str, Any] = GREEN, south: bool = False) -> list[str]:
    return marks.of_bands({"ndvi": ndvi, "leaves": leaves}, ["unknown"], south)


def tiles_of(store: SeasonStore) -> list[Tile]:
    """The tiles of a store as its reader gave them, radar aside."""
    found = []
    for i in range(len(store)):
        reflectance, valid, labels = store.read(i)
        found.append(
            Tile(
                store.ids[i], store.splits[i], reflectance, store.dates(i), valid, labels, store.crs, store.transform(i)
            )
        )
    return found


@pytest.mark.parametrize("key", [(la, s) for la in ("cubes", "mtlcc", "pastis") for s in ("2018", "2019")])
def test_real_crops_are_not_marked(real: dict[str, Workspace], key: tuple[str, str]) -> None:
    found = read_json(real[key[0]].season(key[1]) / "validation.json")["marks"]
    empty = [f"{band} is 0 everywhere" for band in ("B01", "B09", "B10")] if key[0] == "mtlcc" else []
    assert found == {"bands": [], "values": empty}, "the small MTLCC tree has no 60 m bands"


@pytest.mark.parametrize(
    ("layout", "names"),
    [("mtlcc", ("train_fold0", "test_fold0", "eval")), ("pastis-r", ("fold_1", "fold_2", "fold_3"))],
)
def test_simulated_crops_are_not_marked(layout: str, names: Sequence[str], tmp_path: Path) -> None:
    archive(tmp_path / "data/raw", layout, ["2018"], 12, 24, 3, Silent())
    dataset = {
        "source": "archive", "layout": layout.removesuffix("-r"),
        "season_start": "01-01" if layout == "mtlcc" else "09-01",
    }  # fmt: skip
    roles = {role: {"take": [name]} for role, name in zip(("train", "validation", "test"), names, strict=True)}
    changed = {
        "dataset": dataset, "splits": {**roles, "pretrain": roles["train"]},
        "cells": {**STUDY["cells"], "season": ["2018"]}, "pretrain": {**STUDY["pretrain"], "seasons": ["2018"]},
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY | changed))
    prepare(Workspace(tmp_path), "2018", Silent())
    found = read_json(Workspace(tmp_path).season("2018") / "validation.json")
    assert found["tiles"] == 12 and found["marks"] == {"bands": [], "values": []}
    assert set(found["radar"]) == (set() if layout == "mtlcc" else {"S1A", "S1D"})


def test_prepare_tells_what_looks_odd(shared: Path, workspace: Callable[..., Workspace]) -> None:
    class Heard(Silent):
        notes: ClassVar[list[str]] = []

        def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
            self.notes.append(message)

    prepare(workspace(shared / "real/mtlcc", "own-mtlcc"), "2019", Heard())
    assert "season 2019 looks odd: B10 is 0 everywhere" in Heard.notes


@pytest.mark.parametrize("season", ["2018", "2019"])
@pytest.mark.parametrize(
    "swap", [("B04", "B08"), ("B03", "B04"), ("B02", "B08"), ("B05", "B07"), ("B11", "B12"), ("B8A", "B11")]
)
def test_two_bands_of_real_crops_in_each_other_s_place_are_marked(
    real: dict[str, Workspace], stores: Stores, season: str, swap: tuple[str, str]
) -> None:
    store, study = stores["cubes", season], real["cubes"].study
    names = [swap[1 - swap.index(name)] if name in swap else name for name in store.bands]
    tally = Tally(study, season, Archive(store.ids, names, store.classes))
    for tile in tiles_of(store):
        tally.add(Count.of(tile, names, {}))
    assert tally.document()["marks"]["bands"]


def test_the_whole_order_of_another_layout_is_marked(real: dict[str, Workspace], stores: Stores) -> None:
    store = stores["mtlcc", "2019"]
    names = sorted(store.bands)  # B01, B02, ..: not the archive's B04, B03, B02, B08, ..
    tally = Tally(real["mtlcc"].study, "2019", Archive(store.ids, names, store.classes))
    for tile in tiles_of(store):
        tally.add(Count.of(tile, names, {}))
    assert tally.document()["marks"]["bands"]


def test_dates_half_a_year_off_are_marked(real: dict[str, Workspace], stores: Stores) -> None:
    store = stores["cubes", "2019"]
    tally = Tally(real["cubes"].study, "2019", Archive(store.ids, store.bands, store.classes))
    for tile in tiles_of(store):
        late = tile.dates + np.timedelta64(182, "D")
        keep = late < np.datetime64("2020-01-01")
        cut = replace(tile, dates=late[keep], reflectance=tile.reflectance[keep], valid=tile.valid[keep])
        tally.add(Count.of(cut, store.bands, {}))
    assert any("summer crops are no greener" in mark for mark in tally.document()["marks"]["bands"])


@pytest.mark.parametrize(("change", "wanted"), [
    (lambda images: images + np.int16(1000), "the offset of 1,000 seems not to be taken off"),
    (lambda images: (images // 10).astype(np.int16), "leaves reflect"),
    (lambda images: np.where(np.arange(10)[:, None, None] == 3, np.int16(7), images), "is 7 everywhere"),
    (lambda images: (images - 6000).astype(np.int16), "goes down to -"),
    (lambda images: np.clip(images.astype(int) * 10, 0, 32767).astype(np.int16), "reaches 32767"),
])  # fmt: skip
def test_real_crops_on_another_scale_are_marked(
    real: dict[str, Workspace], stores: Stores, change: Any, wanted: str
) -> None:
    store = stores["cubes", "2019"]
    tally = Tally(real["cubes"].study, "2019", Archive(store.ids, store.bands, store.classes))
    for tile in tiles_of(store):
        tally.add(Count.of(replace(tile, reflectance=change(tile.reflectance)), store.bands, {}))
    assert wanted in "; ".join(tally.document()["marks"]["values"])


def test_radar_that_is_not_in_decibel_is_marked() -> None:
    found = {"reflectance_range": {}, "leaves": {"pixels": 0, "reflectance": {}}}
    decibel, linear = {"S1A_VV": [-2500, 900], "S1A_VHVV": [20, 90]}, {"S1A_VV": [0, 190]}
    assert marks.of_values({**found, "radar": {"S1A": {"decibel_x100_range": decibel}}}) == []
    (said,) = marks.of_values({**found, "radar": {"S1A": {"decibel_x100_range": linear}}})
    assert said.startswith("S1A_VV is nowhere below 0 dB")


def test_sound_numbers_are_not_marked() -> None:
    assert said() == []
    assert said({"maize": {}, "unknown": {"06": -0.9}}) == [], "what is ignored is not judged"
    assert said(leaves={"pixels": 3, "reflectance": {"B03": 1, "B04": 2}}) == [], "too few leaves to judge by"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            {"maize": {"03": 0.7, "07": 0.5, "08": 0.4}},
            "no greener from June to August (0.50) than from January to May",
        ),
        ({"maize": {"01": 0.1, "07": 0.2, "08": 0.15}}, "no greener in July and August (0.20) than winter crops"),
        ({"meadow": {"05": 0.5, "06": -0.02}}, "meadow is brighter in red"),
        ({"maize": {"06": -0.7, "08": 0.8}}, "maize -0.70 in month 06"),
        ({name: {"05": 0.25, "12": 0.9} for name in CROPS}, "no class is greener than an NDVI of 0.3"),
    ],
)
def test_seasons_that_are_not_crops_are_marked(change: Mapping[str, Any], wanted: str) -> None:
    assert wanted in "; ".join(said({**CROPS, **change}))


def test_the_summer_of_the_south_is_in_january() -> None:
    southern = {name: {f"{(int(m) + 5) % 12 + 1:02}": v for m, v in months.items()} for name, months in CROPS.items()}
    assert said(southern, south=True) == [] and said(southern) != []


def ground(name: str, x: float, y: float, side: float = 100, turn: float = 0.0) -> Ground:
    """A square by its centre."""
    c, s = np.cos(turn), np.sin(turn)
    corners = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * side / 2 @ np.array([(c, s), (-s, c)]) + (x, y)
    return Ground(name, corners, 10.0)


def by_sampling(a: Ground, b: Ground) -> float:
    """Distance of two outlines by points a metre apart."""

    def outline(corners: np.ndarray) -> np.ndarray:
        steps = np.linspace(0, 1, 100, endpoint=False)[:, None, None]
        return (corners + steps * (np.roll(corners, -1, axis=0) - corners)).reshape(-1, 2)

    p, q = outline(a.corners), outline(b.corners)
    return float(min(np.hypot(*(q - one).T).min() for one in p))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(150, 900), st.floats(0, 6.3), st.floats(0, 1.6)), min_size=1, max_size=6))
def test_the_distance_is_that_of_the_nearest_points_of_the_footprints(places: list[tuple[float, float, float]]) -> None:
    tested = ground("test", 0, 0, turn=0.3)
    others = [ground(f"o{i}", r * np.cos(at), r * np.sin(at), turn=turn) for i, (r, at, turn) in enumerate(places)]
    found, exact = separation([tested], others), min(by_sampling(tested, other) for other in others)
    assert found["metres"] == pytest.approx(exact, abs=0.6) and found["tiles"][0] == "test"
    assert found["adjacent"] == 0


def test_touching_and_overlapping_tiles_are_adjacent_and_0_metres_apart() -> None:
    tested = [ground("a", 0, 0), ground("b", 1000, 0), ground("c", 2000, 0)]
    found = separation(tested, [ground("x", 100, 0), ground("y", 1030, 20), ground("z", 2130, 0)])
    assert found == {"metres": 0.0, "tiles": ["a", "x"], "adjacent": 2}
    assert separation(tested, []) == {} and separation([], tested) == {}


def row_of_tiles() -> list[Tile]:
    """Ten tiles of 8 pixels of 10 m side by side; number 4 and 9 are tested."""
    found = [synthetic_tile(number, "2017") for number in range(10)]
    return [replace(tile, transform=(10.0, 0.0, 80.0 * i, 0.0, -10.0, 0.0)) for i, tile in enumerate(found)]


def test_roles_are_measured_between_their_own_tiles() -> None:
    found = counted(row_of_tiles())["distance"]
    assert found["train"] == {"metres": 0.0, "tiles": ["t04", "t05"], "adjacent": 1}
    assert found["validation"] == {"metres": 0.0, "tiles": ["t04", "t03"], "adjacent": 2}
    listed = {**STUDY["splits"], "train": {"take": ["train"], "tiles": ["t01"]}}
    assert counted(row_of_tiles(), splits=listed)["distance"]["train"] == {
        "metres": 160.0,
        "tiles": ["t04", "t01"],
        "adjacent": 0,
    }


def test_a_rim_without_labels_keeps_test_and_training_apart_but_not_what_pre_trains() -> None:
    tiles = row_of_tiles()
    for tile in tiles:
        tile.labels[:, :2] = tile.labels[:, -2:] = VOID
    found = counted(tiles)["distance"]
    assert (found["train"]["metres"], found["train"]["adjacent"]) == (40.0, 0)
    assert (found["pretrain"]["metres"], found["pretrain"]["adjacent"]) == (20.0, 0)
    tiles[4].labels[:] = VOID
    assert counted(tiles)["distance"]["train"]["tiles"] == ["t09", "t07"], "a test tile without labels is not scored"
