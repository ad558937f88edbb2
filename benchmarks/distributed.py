"""What two processes hold in memory when they train the largest network: DDP beside FSDP2. Prints JSON lines.

    torchrun --nproc-per-node 2 benchmarks/distributed.py ddp|fsdp [--size large] [--batch 2] [--window 16] [--dates 12]

Steps of fine-tuning on random images, gloo on the CPU. The peak is of resident memory above what the process held
before there was a network, the highest of the processes; seconds are the median of the steps.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from stcln.model.network import Config, build
from stcln.training.batchnorm import put_together
from stcln.training.distributed import Team, joined

STEPS = 4
BANDS, CLASSES = 10, 20


def peak() -> float:
    """The most that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Train a few steps and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=("ddp", "fsdp"))
    parser.add_argument("--size", default="large", choices=("tiny", "base", "large"))
    for name, value in (("batch", 2), ("window", 16), ("dates", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    with joined():
        team = Team.here()
        torch.set_num_threads(1)
        before = peak()
        network = build(Config.of(asked.size, BANDS, CLASSES), 1)
        parameters = sum(p.numel() for p in network.parameters())
        if asked.how == "ddp":
            model = team.spread(network)
        else:
            put_together(network)
            for layer in network.encoder.layers:
                fully_shard(layer)
            model = fully_shard(network)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        B, T, side = asked.batch // team.size, asked.dates, asked.window
        rng = torch.Generator().manual_seed(team.rank)
        images = torch.randn((B, T, BANDS, side, side), generator=rng)
        labels = torch.randint(CLASSES, (B, side, side), generator=rng)
        positions = torch.arange(T).expand(B, T)
        seconds = []
        for _ in range(STEPS):
            began = time.perf_counter()
            optimiser.zero_grad()
            cross_entropy(model(images, positions), labels).backward()
            optimiser.step()
            seconds.append(time.perf_counter() - began)
        used = torch.tensor(peak() - before)
        dist.all_reduce(used, dist.ReduceOp.MAX)
        if team.leads:
            size = {"size": asked.size, "parameters": parameters, "batch": asked.batch, "window": side, "dates": T}
            took = {"peak_mb": round(used.item()), "seconds": round(statistics.median(seconds), 2)}
            print(json.dumps({"how": asked.how, "processes": team.size, **size, **took}))


if __name__ == "__main__":
    main()
