"""The benchmark of a step runs, beside a stand-in for the published code, and prints what its page says."""

import json
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).parents[1] / "benchmarks/step.py"
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
