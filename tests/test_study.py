"""A study checks itself before anything runs, and names the field that is wrong."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from stcln.errors import BadInput
from stcln.new import studies
from stcln.study import Study, load_study


def changed(tmp_path: Path, **dotted: Any) -> Path:
    """The demo study with some fields replaced; `a__b` stands for a.b, None drops the field."""
    values = yaml.safe_load(studies()["demo"].read_text())
    for name, value in dotted.items():
        *path, last = name.split("__")
        part = values
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
        if value is None:
            del part[last]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_ready_study_is_valid(name: str) -> None:
    assert load_study(studies()[name]).name == name


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"seed": -1}, "seed", "greater than or equal to 0.*got -1"),
        ({"finetune__learning_rate": -1}, "finetune.learning_rate", "greater than 0.*got -1"),
        ({"finetune__epoch": 3}, "finetune.epoch", "Extra inputs"),
        ({"arms__scratch__labels": 1.5}, "arms.scratch.labels", "less than or equal to 1.*got 1.5"),
        ({"pretrain__mask__ratio": 0}, "pretrain.mask.ratio", "greater than 0"),
        ({"cells__length": ["may"]}, "study", r"cells.length: \['may'\] not among"),
        ({"cells__season": ["2018", "2018"]}, "cells.season", "named twice"),
        ({"cells__season": ["spring"], "pretrain__seasons": ["spring"]}, "study", "not years"),
        ({"pretrain__seasons": ["1999"]}, "study", r"pretrain.seasons: \['1999'\] not among"),
        ({"cells__pretrained": ["scratch"]}, "study", "starts both"),
        ({"cells__pretrained": [], "cells__scratch": []}, "study", "no arm"),
        ({"lengths__june__until": "31-06"}, "lengths.june.until", "pattern"),
        ({"dataset__layout": "shapefile"}, "dataset.layout", "mtlcc"),
        ({"splits": None}, "splits", "required"),
        ({"finetune__window": 16}, "study", "differs from pretrain.window"),
    ],
)
def test_a_faulty_field_is_named_with_its_value(
    tmp_path: Path, change: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(BadInput, match=rf"params.yaml, field {field}: .*{problem}.*correct the field"):
        load_study(changed(tmp_path, **change))


def test_a_missing_study_and_broken_yaml_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no study here"):
        load_study(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(BadInput, match="not YAML"):
        load_study(tmp_path / "params.yaml")


def test_a_season_may_start_in_the_autumn_before_its_year(tmp_path: Path) -> None:
    study = load_study(changed(tmp_path, dataset__season_start="09-01"))
    assert study.dataset.start("2019") == date(2018, 9, 1)
    assert load_study(changed(tmp_path)).dataset.start("2019") == date(2019, 1, 1)


def test_an_unset_switch_is_ours() -> None:
    values = yaml.safe_load(studies()["demo"].read_text())
    del values["method"]
    assert Study.model_validate(values).method == load_study(studies()["demo"]).method
