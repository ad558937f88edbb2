"""A season is compared with those trained on: the same bytes, larger numbers where it differs, a decision in words."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import restudy, synthetic_tile, write_season

from stcln.data.tile import Tile
from stcln.drift import drift
from stcln.drift.decision import decide
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.checkpoint import HEAD
from stcln.storage import digest, read_json, write_json
from stcln.study import Drift
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

RULE = Drift(error=1.5, error_again=3.0, ndvi=0.08, classes=0.2)
VALIDATION: dict[str, Any] = {
    "ndvi": {"wheat": {"05": 0.7, "06": 0.8}, "maize": {"06": 0.3, "07": 0.6}, "unknown": {"05": 0.1}},
    "pixels_per_class": {"train": {"wheat": 60, "maize": 40, "unknown": 900}, "test": {"(outside every class)": 7}},
}


@pytest.fixture(scope="module")
def trained(_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seasons with validation reports, and an encoder that was pre-trained on 2016."""
    root = tmp_path_factory.mktemp("drift") / "tiny"
    shutil.copytree(_tiny, root)
    for season in ("2016", "2017"):
        write_json(root / f"data/seasons/{season}.zarr/validation.json", VALIDATION)
    pretrain(Workspace(root), Silent())
    return root


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Workspace:
    """A copy of that workspace."""
    shutil.copytree(trained, tmp_path / "tiny")
    return Workspace(tmp_path / "tiny")


def rewrite(place: Workspace, change: Callable[[Tile], Tile], **validation: Any) -> None:
    """Write season 2017 anew, each tile changed."""
    path = place.season("2017")
    shutil.rmtree(path)
    write_season(path, "2017", [change(synthetic_tile(n, "2017")) for n in range(10)])
    write_json(path / "validation.json", VALIDATION | validation)


def found(place: Workspace, season: str = "2017") -> dict[str, Any]:
    drift(place, season, Silent())
    return dict(read_json(place.drift(season) / "drift.json"))


def test_the_same_season_gives_the_same_bytes_and_says_what_it_rests_on(place: Workspace) -> None:
    first = found(place)
    one = digest(place.drift("2017"))
    drift(place, "2017", Silent())
    assert digest(place.drift("2017")) == one
    assert first["against"] == ["2016"] and first["simulated"]
    error = first["reconstruction"]
    assert error["others"]["tiles"] == len(read_json(place.pretrained / "history.json")["held_out"])
    assert error["season"]["tiles"] == 6, "every tile that pre-trains: the encoder has seen none of this season"
    assert first["ndvi"]["distance"] == first["classes"]["distance"] == 0
    lineage = read_json(place.drift("2017") / "lineage.json")
    assert set(lineage["inputs"]) == {"data/seasons", "models/pretrained"}


def test_what_the_encoder_has_not_seen_raises_its_error_until_it_asks_for_another_pre_training(
    place: Workspace,
) -> None:
    place = restudy(place, pretrain={"mask": {"vegetation": 0}})  # hide on any date, however little is green
    usual = found(place)["reconstruction"]["ratio"]
    rewrite(place, lambda tile: replace(tile, reflectance=(tile.reflectance + 4000).astype(np.int16)))
    other = found(place)
    assert other["reconstruction"]["ratio"] > 3 * usual
    assert other["decision"] == "pre-train again" and other["reconstruction"]["beyond"] == 1


def test_a_season_under_way_is_compared_with_the_same_part_of_the_others(place: Workspace) -> None:
    def early(tile: Tile) -> Tile:
        return replace(tile, reflectance=tile.reflectance[:4], dates=tile.dates[:4], valid=tile.valid[:4])

    whole = found(place)["reconstruction"]["others"]
    rewrite(place, early)
    part = found(place)
    assert part["last_image"] < "2017-09" and part["reconstruction"]["others"] != whole


def test_without_green_there_is_no_word_on_the_encoder(place: Workspace) -> None:
    rewrite(place, lambda tile: replace(tile, reflectance=np.full_like(tile.reflectance, 800)))
    one = found(place)
    assert one["reconstruction"] is None and "the encoder was not tried: one side has no tile" in one["reason"]


def test_a_study_without_pretrained_arms_needs_no_encoder(place: Workspace) -> None:
    shutil.rmtree(place.pretrained)
    with pytest.raises(BadInput, match="models/pretrained"):
        drift(place, "2017", Silent())
    bare = restudy(place, cells={"pretrained": []})
    assert "reconstruction" not in found(bare) and "encoder" not in found(bare)["reason"]


def test_an_encoder_without_its_head_is_named_with_the_remedy(place: Workspace) -> None:
    (place.pretrained / HEAD).unlink()
    with pytest.raises(BadInput, match=r"head.safetensors: the file is missing; run the step that writes it again"):
        drift(place, "2017", Silent())


def test_without_labels_the_green_of_all_pixels_is_compared_and_the_mix_is_not(place: Workspace) -> None:
    rewrite(place, lambda tile: tile, ndvi={}, pixels_per_class={})
    one = found(place)
    assert one["ndvi"]["most"] == "all pixels" and 0 < one["ndvi"]["distance"] < 0.3
    assert one["classes"] is None and "no labels to compare" in one["reason"]


def test_every_crop_counts_by_its_share_and_ignored_ones_do_not(place: Workspace) -> None:
    later = {"wheat": {"05": 0.5, "06": 0.8}, "maize": {"06": 0.3, "07": 0.6}, "unknown": {"05": 0.9}}
    mixed = {"train": {"wheat": 30, "maize": 70, "unknown": 5}}
    rewrite(place, lambda tile: tile, ndvi=later, pixels_per_class=mixed)
    one = found(place)
    assert one["ndvi"] == {
        "distance": pytest.approx(0.3 * 0.2 / 2, abs=1e-4), "classes": 2, "months": 3, "most": "wheat", "month": "05",
        "by": -0.2,
    }  # fmt: skip
    assert one["classes"] == {"distance": 0.3, "most": one["classes"]["most"], "share": pytest.approx(0.5, abs=0.21),
                              "usual": pytest.approx(0.5, abs=0.11)}  # fmt: skip


def numbers(ratio: float | None, ndvi: float | None, classes: float | None) -> dict[str, dict[str, Any] | None]:
    spread = {"tiles": 5, "quartiles": [1, 2, 3]}
    return {
        "reconstruction": None if ratio is None else {"ratio": ratio, "season": spread, "others": spread},
        "ndvi": None
        if ndvi is None
        else {"distance": ndvi, "classes": 2, "months": 3, "most": "maize", "month": "07", "by": -0.1},
        "classes": None
        if classes is None
        else {"distance": classes, "most": "maize", "share": 0.1, "usual": 0.2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "ndvi", "classes", "decision"),
    [
        (1.5, 0.08, 0.2, "reuse"), (1.51, 0.08, 0.2, "fine-tune"), (1.0, 0.081, 0.0, "fine-tune"),
        (1.0, 0.0, 0.21, "fine-tune"), (3.0, 0.5, 0.5, "fine-tune"), (3.01, 0.0, 0.0, "pre-train again"),
        (1.0, 0.01, None, "reuse"), (None, 0.01, 0.0, "fine-tune"), (1.0, None, 0.0, "fine-tune"),
        (None, None, None, "fine-tune"),
    ],
)  # fmt: skip
def test_the_decision_follows_the_thresholds_and_its_sentence_has_the_numbers(
    ratio: float | None, ndvi: float | None, classes: float | None, decision: str
) -> None:
    made, reason = decide("2020", ["2018", "2019"], numbers(ratio, ndvi, classes), RULE)
    assert made == decision and reason.startswith(decision.capitalize()) and reason.endswith(".")
    for number, text in ((ratio, f"{ratio} times" if ratio is None else f"{ratio:.2f} times"),):
        assert number is None or text in reason
    assert "nothing in common" in reason or "against 2018 and 2019" in reason
    json.dumps(reason)


def test_a_study_without_an_encoder_may_reuse_by_ndvi_and_crops() -> None:
    known = {name: part for name, part in numbers(None, 0.01, 0.0).items() if name != "reconstruction"}
    assert decide("2020", ["2018"], known, RULE)[0] == "reuse"
