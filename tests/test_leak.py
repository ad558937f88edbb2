"""A study whose test pixels are trained on is refused by every verb that trains or scores, before it begins."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import Refused
from tiny_study import restudy, synthetic_tile, write_season

from stcln.workspace import Workspace

CELL = "--season 2016 --length d6 --arm scratch"
WORDS = "pairs of tiles share ground or id between test in 2016 and {} in {}: t04 and t04"


@pytest.mark.parametrize(
    ("verb", "role"), [("pretrain", "pretrain"), (f"finetune {CELL}", "train"), (f"finetune {CELL}", "validation")]
)
def test_training_refuses_a_season_whose_test_tiles_play_another_role(
    tiny_workspace: Workspace, refused: Refused, verb: str, role: str
) -> None:
    restudy(tiny_workspace, splits={role: {"take": [role.replace("pretrain", "train"), "test"]}})
    refused(f"{verb} -w tiny", f"field splits … {WORDS.format(role, 2016)}")


def test_scoring_refuses_a_test_tile_that_trains_in_another_season(
    tiny_trained: Workspace, tmp_path: Path, refused: Refused
) -> None:
    shutil.copytree(tiny_trained.root, tmp_path / "tiny")
    moved = [synthetic_tile(n, "2017") for n in range(10)]
    moved[4] = replace(moved[4], split="train")
    shutil.rmtree(tmp_path / "tiny/data/seasons/2017.zarr")
    write_season(tmp_path / "tiny/data/seasons/2017.zarr", "2017", moved)
    refused(f"evaluate {CELL} -w tiny", f"field splits … {WORDS.format('pretrain', 2017)}")
