"""A new season leaves what stands as it is: the older stores, and so the encoder and cells made from them."""

from pathlib import Path

import pytest
import yaml
from tiny_study import STUDY

from stcln.cli import run_verb
from stcln.events import Silent
from stcln.lineage import trace
from stcln.storage import digest, read_json
from stcln.workspace import Workspace

SIZES = {"mtlcc": 12, "cube": 8}
OWN = {"mtlcc": "data19/1.tfrecord.gz", "cube": "simulated_2019.nc"}


def study(root: Path, layout: str, *seasons: str) -> Workspace:
    """A study of a simulated archive in `root`."""
    changed = {
        "dataset": {"source": "simulated", "layout": layout, "tile": 8, "ignore": ["unknown"]},
        "simulation": {"tiles": 4, "size": SIZES[layout], "dates": 8},
        "cells": {**STUDY["cells"], "season": list(seasons)},
        "pretrain": {**STUDY["pretrain"], "seasons": ["2018"]},
    }
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(STUDY | changed))
    return Workspace(root)


def run(workspace: Workspace, *words: str) -> None:
    run_verb([*words, "--workspace", str(workspace.root)], Silent())


@pytest.mark.parametrize("layout", sorted(SIZES))
def test_a_further_season_leaves_the_older_store_byte_for_byte_the_same(tmp_path: Path, layout: str) -> None:
    digests, archives = [], []
    for seasons in (["2018"], ["2018", "2019"]):
        workspace = study(tmp_path / "w", layout, *seasons)
        run(workspace, "fetch")
        run(workspace, "prepare", "--season", "2018")
        digests.append(digest(workspace.season("2018")))
        archives.append(digest(workspace.raw))
    assert archives[0] != archives[1] and digests[0] == digests[1]


@pytest.mark.parametrize("layout", sorted(SIZES))
def test_the_walk_from_a_store_still_reaches_the_archive_and_names_a_changed_file(tmp_path: Path, layout: str) -> None:
    workspace = study(tmp_path / "w", layout, "2018", "2019")
    run(workspace, "fetch")
    for season in ("2018", "2019"):
        run(workspace, "prepare", "--season", season)
    found = trace(workspace.season("2019"), workspace)
    assert found.matches, found.problems
    assert [node.path for node in found.nodes] == ["data/raw", "data/seasons/2019.zarr"]
    assert found.nodes[0].record and found.nodes[0].record["stage"] == "fetch"
    path = next(workspace.raw.rglob(OWN[layout]))
    path.write_bytes(path.read_bytes() + b"\0")
    own = [p for p in read_json(workspace.season("2019") / "lineage.json")["inputs"] if str(path).find(p) >= 0]
    assert len(own) == 1
    problems = trace(workspace.season("2019"), workspace).node.problems
    assert len(problems) == 1 and problems[0].startswith(f"{own[0]} changed since: recorded ")
    other = trace(workspace.season("2018"), workspace)
    assert not other.node.problems, "the season that does not read the file is as recorded"
    assert not other.matches, "but the archive is not as fetched"


def test_a_limit_that_is_raised_leaves_the_store_as_it_is_and_so_all_that_was_trained_on_it(tmp_path: Path) -> None:
    workspace, digests = study(tmp_path / "w", "mtlcc", "2018"), []
    run(workspace, "fetch")
    for limit in (0.0, 0.5):
        params = yaml.safe_load((workspace.root / "params.yaml").read_text())
        params["dataset"] |= {"max_rejected": limit, "max_absent": 1 - limit}
        (workspace.root / "params.yaml").write_text(yaml.safe_dump(params))
        run(workspace, "prepare", "--season", "2018")
        digests.append(digest(workspace.season("2018")))
    assert digests[0] == digests[1]
    assert "dataset.season_start" in read_json(workspace.season("2018") / "lineage.json")["params"]
    assert trace(workspace.season("2018"), Workspace(workspace.root)).node.problems == ()
