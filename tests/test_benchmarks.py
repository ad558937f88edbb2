"""Benchmarks of the network run and print what their page says; the published code has a stand-in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stcln.workspace import Workspace

STEP = Path(__file__).parents[1] / "benchmarks/step.py"
OVERLAP = STEP.with_name("overlap.py")
STAND_IN = """
from torch import nn

class UTAE(nn.Module):
    def __init__(self, n_channels, n_classes, **_):
        super().__init__()
        self.classes, self.convolution = n_classes, nn.Conv2d(n_channels, n_classes, 1)

class UTAEClassification(nn.Module):
    def __init__(self, utae):
        super().__init__()
        self.utae = utae

    def forward(self, images, positions):
        return self.utae.convolution(images.mean(1).cuda()), None
"""


def test_a_step_is_measured_in_turn_with_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "STCLN.py").write_text(STAND_IN)
    words = ["--mode", "finetune", "--dates", "3", "--size", "6", "--steps", "2", "--threads", "1", "--published"]
    done = subprocess.run(
        [sys.executable, STEP, *words, tmp_path], text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert (line["mode"], line["dates"], line["size"], line["steps"]) == ("finetune", 3, 6, 2)
    ours, published = line["ours"], line["published"]
    for found in (ours, published):
        assert 0 < found["fastest"] <= found["seconds"] <= found["slowest"] and found["peak_mib"] > 100
    assert line["times_as_fast"] == round(published["seconds"] / ours["seconds"], 2) or ours["seconds"] < 0.01
    assert ours["gflop"] > 10 * published["gflop"], "a 1x1 convolution costs nothing beside the network"


def test_the_published_network_has_one_size(tmp_path: Path) -> None:
    words = ["--model", "tiny", "--published", str(tmp_path)]
    done = subprocess.run([sys.executable, STEP, *words], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2 and "the published network is --model base" in done.stderr


def test_windows_are_scored_at_the_overlaps_asked_for(tiny_trained: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, OVERLAP, tiny_trained.root, "0", "0.5"],
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["overlap"] for line in lines} == {0.0, 0.5} and {line["tested"] for line in lines} == {"2016", "2017"}
    assert all(line["computed"] == 1.0 and 0 < line["oa"] <= 1 for line in lines), (
        "a tile of the tiny study is a window"
    )


@pytest.mark.parametrize(
    ("script", "words", "problem"),
    [(OVERLAP, ["nowhere", "1"], "1 is not in 0 to 0.9"), (STEP, ["--dates", "0"], "0 is less than 1")],
)
def test_what_cannot_be_measured_is_refused(script: Path, words: list[str], problem: str) -> None:
    done = subprocess.run([sys.executable, script, *words], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2 and problem in done.stderr


@pytest.mark.orchestration
def test_a_study_by_dagster_is_measured_beside_the_same_by_dvc() -> None:
    words = ["study", "--seasons", "1", "--lengths", "1", "--arms", "1"]
    done = subprocess.run(
        [sys.executable, STEP.with_name("orchestration.py"), *words],
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = map(json.loads, done.stdout.splitlines())
    assert ours["stages"] == 8 and theirs["same_lock"] and theirs["ratio"] > 0
