"""What each size of the network costs in a step of either training, on simulated images. Prints JSON lines.

    python benchmarks/sizes.py --window 12 --dates 10 --batch 2

A process of its own for every size and training, so that memory is its own. Counted: parameters and multiply-adds of a
window, forward. Measured: CPU seconds of a step (forward, backward, Adam), the median of the rounds, and the process's
highest memory, which the imports are part of (`import`: of a process that only imports).
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stcln.meter import Meter
from stcln.model.cost import multiply_adds, parameters
from stcln.model.network import STCLN, Config, Reconstructor, Size, reconstruction_loss

BANDS, CLASSES = 13, 18  # MTLCC's
TRAININGS = ("pretrain", "finetune")


def objective(training: str, size: Size, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[nn.Module, Config, Any]:
    """A network, its dimensions, and a function that gives the loss of a batch (images, hidden, labels)."""
    images, hidden, labels = batch
    positions = torch.arange(images.shape[1]).expand(images.shape[:2]) * 10
    if training == "finetune":
        config = Config.of(size, BANDS, CLASSES)
        classifier = STCLN(config)
        return classifier, config, lambda: cross_entropy(classifier(images, positions), labels)
    config = Config.of(size, BANDS)
    filler = Reconstructor(config.encoder())
    return filler, config, lambda: reconstruction_loss(filler(images, positions, hidden), images, hidden)


def one(training: str, size: Size, ask: argparse.Namespace) -> dict[str, Any]:
    """Steps of one size in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(ask.threads)
    B, T, side = ask.batch, ask.dates, ask.window
    images = torch.randn(B, T, BANDS, side, side)
    batch = images, torch.rand(B, T, side, side) < 0.4, torch.randint(CLASSES, (B, side, side))
    network, config, loss = objective(training, size, batch)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    times = []
    for _ in range(ask.rounds + 1):  # the first makes the optimiser's state
        meter = Meter()
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        times.append(meter.read()["cpu_seconds"])
    return {
        "training": training, "size": size, "parameters": parameters(network),
        "window_multiply_adds": multiply_adds(config, T, side, side),
        "step_cpu_seconds": round(statistics.median(times[1:]), 2), "peak_gb": _peak(),
    }  # fmt: skip


def _peak() -> float:
    return round(Meter().read()["peak_memory"] / 1e9, 2)


def main() -> None:
    """Every size, each in a process of its own."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("window", 12), ("dates", 10), ("batch", 2), ("threads", 1), ("rounds", 3)):
        asked.add_argument(f"--{name}", type=int, default=default)
    asked.add_argument("--only", nargs=2, metavar=("TRAINING", "SIZE"), help="in this process; `import none`: no step")
    ask = asked.parse_args()
    if ask.only:
        found = {"peak_gb": _peak()} if ask.only[0] == "import" else one(*ask.only, ask)
        print(json.dumps({"simulated": True, **found}))
        return
    for training, size in [("import", "none"), *((t, s) for s in get_args(Size) for t in TRAININGS)]:
        given = [f"--{name}={getattr(ask, name)}" for name in ("window", "dates", "batch", "threads", "rounds")]
        subprocess.run([sys.executable, __file__, "--only", training, size, *given], check=True)


if __name__ == "__main__":
    main()
