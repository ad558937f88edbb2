"""The ready studies run on small real Sentinel-2 data, verb by verb, in fewer epochs than a study would take."""

import json
import re
from pathlib import Path

import pytest

from stcln.cli import run_verb
from stcln.events import Silent
from stcln.new import make
from stcln.workspace import Workspace

SOURCES = {"flanders": "cubes", "own-mtlcc": "mtlcc", "own-pastis": "pastis"}


def short(root: Path, study: str, source: Path) -> Workspace:
    """A workspace of a ready study, cut to one seed and two epochs."""
    make(root, study, str(source))
    text = (root / "params.yaml").read_text()
    text = re.sub(r"epochs: \d+", "epochs: 2", re.sub(r"seeds: \d+", "seeds: 1", text))
    (root / "params.yaml").write_text(text)
    return Workspace(root)


def run(workspace: Workspace, *words: str) -> None:
    run_verb([*words, "--workspace", str(workspace.root)], Silent())


@pytest.mark.parametrize("study", sorted(SOURCES))
def test_a_ready_study_runs_on_real_data_from_the_archive_to_the_scores(
    study: str, shared: Path, tmp_path: Path
) -> None:
    workspace = short(tmp_path / "w", study, shared / "real" / SOURCES[study])
    seasons, length = workspace.study.cells.season, workspace.study.cells.length[-1]
    run(workspace, "fetch")
    for season in seasons:
        run(workspace, "prepare", "--season", season)
    run(workspace, "pretrain")
    for season in seasons:
        run(workspace, "drift", "--season", season)
        drift = json.loads((workspace.drift(season) / "drift.json").read_text())
        assert drift["simulated"] is False and drift["decision"] == "fine-tune"  # one place is maize, the other cereals
        assert drift["classes"]["most"] in ("maize", "Corn") and drift["classes"]["distance"] > 0.6
        for arm in workspace.study.cells.arm:
            keys = ("--season", season, "--length", length, "--arm", arm)
            run(workspace, "finetune", *keys)
            run(workspace, "evaluate", *keys)
            scores = json.loads((workspace.cell(season, length, arm) / "scores.json").read_text())
            assert scores["simulated"] is False
            assert set(scores["seeds"][0]["tests"]) == set(seasons)
            for test in scores["seeds"][0]["tests"].values():
                assert 0 <= test["oa"] <= 1 and sum(map(sum, test["confusion"])) > 0
