"""The report's section on the seasons says what validation.json says."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_study import make

from stcln import storage
from stcln.errors import BadInput
from stcln.report.collect import collect
from stcln.report.markdown import markdown, summary
from stcln.report.page import page
from stcln.report.seasons import odd, seasons_section
from stcln.workspace import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make(tmp_path, seasons=("2018",), lengths=("full",), pretrained=(), seeds=1)


def change(place: Workspace, **parts: Any) -> None:
    path = place.season("2018") / "validation.json"
    storage.write_json(path, storage.read_json(path) | parts)


def test_a_sound_season_says_that_nothing_looks_odd(place: Workspace) -> None:
    results = collect(place)
    assert odd(results) == []
    text = seasons_section(results)
    assert "Nothing: bands, values and greenness" in text and "Nothing: bands" in markdown(results)
    for said in ("1,240", "t4, t0", "120 to 9,000", "4,012", "record corrupted", "in the archive&#x27;s order"):
        assert said in text, said


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "bands": (
        {"marks": {"bands": ["leaves are no darker in B04 than in B03"], "values": []}},
        "leaves are no darker in B04",
    ),
    "values": ({"marks": {"bands": [], "values": ["B01 is 0 everywhere"]}}, "B01 is 0 everywhere"),
    "twice": ({"duplicates": {"same_ground": [["t1", "t9"]], "same_images": []}}, "tiles t1, t9 have the same ground"),
    "near": (
        {"distance": {"train": {"metres": 0.0, "tiles": ["t4", "t0"], "adjacent": 3}}},
        "of the test tiles 3 touch a training tile, as t4 and t0 do",
    ),
    "blind": ({"ndvi": {}}, "no NDVI, for want of B04 and B08"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_looks_odd_is_said_in_every_form(place: Workspace, name: str) -> None:
    parts, said = ODD[name]
    change(place, **parts)
    results = collect(place)
    for text in (page(results), markdown(results), json.dumps(summary(results))):
        assert f"2018: {said}" in text and "Nothing: bands" not in text


def test_a_trial_and_its_tiles_are_named(place: Workspace) -> None:
    change(place, trial={"fold": 5, "limit": 20})
    text = seasons_section(collect(place))
    assert "2018: a trial on 6 tiles (fold 5, limit 20), not the whole archive." in text


def test_radar_has_its_own_row_of_dates(place: Workspace) -> None:
    assert "S1A" not in seasons_section(collect(place))
    orbit = {
        "images": 77,
        "dates_per_month": {"2018-05": 4},
        "missing_share": 0.25,
        "decibel_x100_range": {"S1A_VV": [-2450, 310]},
    }
    change(place, radar={"S1A": orbit})
    text = seasons_section(collect(place))
    assert "S1A" in text and "<td>77</td>" in text and "25.0%" in text and "S1A_VV -24.5 to 3.1" in text


def test_clouds_are_drawn_only_where_the_layout_masks_them(tmp_path: Path) -> None:
    drawn = {
        layout: seasons_section(collect(make(tmp_path / layout, seasons=("2018",), lengths=("full",), seeds=1,
                                             pretrained=(), layout=layout)))
        for layout in ("cube", "pastis")
    }  # fmt: skip
    assert "dots: share" in drawn["cube"] and "23.1%" in drawn["cube"]
    assert "dots: share" not in drawn["pastis"] and "carries no cloud mask" in drawn["pastis"]


def test_a_store_of_an_older_version_is_refused(place: Workspace) -> None:
    path = place.season("2018") / "validation.json"
    path.write_text('{"tiles": 6, "ndvi": {}}')
    with pytest.raises(BadInput, match="older version; run `prepare --season 2018` again"):
        collect(place)
