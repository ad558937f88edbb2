"""Roles of tiles, and the proof that no test pixel is trained on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from stcln.data import store
from stcln.data.splits import Selection, check_disjoint, plays, select
from stcln.data.store import Header, SeasonStore
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.events import Silent, Value
from stcln.study import Role, Study

STUDY = Path(__file__).parents[2] / "studies/own-pastis.yaml"
SIDE = 8


class Notes(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        self.messages.append(f"{message} {dict(values or {})}")


def study(window: int = 4, lists: str = "checked", **roles: dict[str, object]) -> Study:
    values = yaml.safe_load(STUDY.read_text())
    splits = {"pretrain": ["e"], "train": ["a"], "validation": ["b"], "test": ["d"]}
    values["splits"] = {name: {"take": take} for name, take in splits.items()}
    for name, role in roles.items():
        values["splits"][name] |= role
    values["finetune"]["window"] = values["pretrain"]["window"] = window
    values["method"]["lists"] = lists
    return Study.model_validate(values)


def tile(name: str, split: str, east: float, lean: float = 0.0) -> Tile:
    a, d = 10 * np.cos(lean), 10 * np.sin(lean)
    return Tile(
        id=name, split=split, reflectance=np.ones((1, 1, SIDE, SIDE), np.int16),
        dates=np.array(["2019-05-01"], "M8[D]"), valid=np.ones((1, SIDE, SIDE), bool),
        labels=np.zeros((SIDE, SIDE), np.uint8), crs="EPSG:2154",
        transform=(a, d, 700_000 + a * SIDE * east, d, -a, 6_600_000 + d * SIDE * east),
    )  # fmt: skip


TILES = [tile("1", "a", 0), tile("2", "b", 1), tile("3", "a c", 2), tile("4", "d", 3), tile("5", "e", 4)]


def season(path: Path, tiles: list[Tile], name: str = "2019") -> SeasonStore:
    header = Header(
        season=name, start=study().dataset.start(name), layout="pastis", bands=("B04",), classes=("x",), ignore=(),
        simulated=False,
    )  # fmt: skip
    store.write(path / f"{name}.zarr", tiles, header, lambda _: True)
    return SeasonStore.open(path / f"{name}.zarr")


def test_a_role_takes_the_windows_of_its_splits_and_test_takes_whole_tiles(tmp_path: Path) -> None:
    found = season(tmp_path, TILES)
    four = [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert select(found, study(), "train", Silent()) == [Selection(i, y, x, 4) for i in (0, 2) for y, x in four]
    assert select(found, study(), "test", Silent()) == [Selection(3, 0, 0, SIDE)]


def test_crops_are_windows_by_row_and_column(tmp_path: Path) -> None:
    found = select(season(tmp_path, TILES), study(train={"crops": [[1, 0]]}), "train", Silent())
    assert found == [Selection(0, 4, 0, 4), Selection(2, 4, 0, 4)]


def test_listed_ids_are_checked_and_what_is_dropped_is_told(tmp_path: Path) -> None:
    notes = Notes()
    found = select(season(tmp_path, TILES), study(8, train={"tiles": ["3", "1", "3", "4", "77"]}), "train", notes)
    assert [one.tile for one in found] == [2, 0]
    assert notes.messages == [
        "splits.train, season 2019: listed ids repeated in the list, taken once {'tiles': 1, 'first': '3'}",
        "splits.train, season 2019: listed ids in none of ['a'], dropped {'tiles': 1, 'first': '4'}",
        "splits.train, season 2019: listed ids absent from the season {'tiles': 1, 'first': '77'}",
    ]


def test_lists_as_published_keep_the_repeated_and_the_misplaced(tmp_path: Path) -> None:
    role = {"tiles": ["3", "1", "3", "4", "77"]}
    found = select(season(tmp_path, TILES), study(8, "as-published", train=role), "train", Silent())
    assert [one.tile for one in found] == [2, 0, 2, 3]


def test_lists_by_class_give_so_many_of_each_from_the_front(tmp_path: Path) -> None:
    role = {"tiles": {"1": ["3", "1"], "2": ["1", "3"]}, "per_class": 1}
    assert [s.tile for s in select(season(tmp_path, TILES), study(8, train=role), "train", Silent())] == [2, 0]


def test_a_tile_with_several_splits_plays_for_each() -> None:
    assert plays(Role(take=("c",)), "3", "a c") and not plays(Role(take=("d",)), "3", "a c")
    assert not plays(Role(take=("c",), tiles=("1",)), "3", "a c")


def test_a_role_without_tiles_is_refused_with_the_splits_there_are(tmp_path: Path) -> None:
    found = season(tmp_path, TILES)
    with pytest.raises(
        BadInput, match=r"field splits.train: no tile of season 2019 plays it; its splits are \['a', 'b'"
    ):
        select(found, study(train={"take": ["fold_9"]}), "train", Silent())


@pytest.mark.parametrize(("window", "crops"), [(9, []), (4, [[0, 2]])])
def test_windows_that_do_not_fit_are_refused(tmp_path: Path, window: int, crops: list[list[int]]) -> None:
    with pytest.raises(BadInput, match=f"windows of {window} pixels do not fit into tiles of 8 x 8"):
        select(season(tmp_path, TILES), study(window, train={"crops": crops}), "train", Silent())


def test_disjoint_roles_are_accepted_in_every_season(tmp_path: Path) -> None:
    check_disjoint(study(), [season(tmp_path, TILES), season(tmp_path, TILES, "2018")])


def test_a_test_tile_that_trains_in_another_season_is_found_by_its_id(tmp_path: Path) -> None:
    moved = [*TILES[:2], replace(tile("4", "a", 50), split="a")]
    with pytest.raises(
        BadInput, match="1 pairs of tiles share ground or id between test in 2019 and train in 2018: 4 and 4"
    ):
        check_disjoint(study(), [season(tmp_path, TILES), season(tmp_path, moved, "2018")])


def test_a_test_pixel_under_a_training_tile_is_found_by_its_ground(tmp_path: Path) -> None:
    shifted = [*TILES[:2], tile("90", "a", 3.875)]
    with pytest.raises(BadInput, match="between test in 2019 and train in 2018: 4 and 90"):
        check_disjoint(study(), [season(tmp_path, TILES), season(tmp_path, shifted, "2018")])


def test_neighbours_that_lean_against_the_map_do_not_count_as_overlapping(tmp_path: Path) -> None:
    """PASTIS patches lie in UTM and are listed in Lambert-93: their bounding boxes overlap."""
    row = [tile("1", "a", 0, 0.08), tile("4", "d", 1, 0.08), tile("5", "e", 2, 0.08)]
    check_disjoint(study(), [season(tmp_path / "apart", row)])
    row[2] = tile("5", "e", 1.875, 0.08)
    with pytest.raises(BadInput, match="test in 2019 and pretrain in 2019: 4 and 5"):
        check_disjoint(study(), [season(tmp_path / "over", row)])
