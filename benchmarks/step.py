"""One step of the network: seconds, memory, FLOPs, and how much of the machine's matrix products that is.

    python benchmarks/step.py --mode finetune --precision float32
    python benchmarks/step.py --mode infer --dates 40 --size 128 --tile windows --published ../STCLN/PASTIS

A JSON line a configuration. With `--published DIR` (the directory of the published code's STCLN.py, fetched by you)
both networks take their steps in turn, each in a process of its own, and `times_as_fast` compares the medians. The
input is random numbers, all of it valid: simulated, and as dear as real ones.

A step is what training does with a batch: forward, loss, backward, clip, Adam; in mode `infer` the forward pass alone.
`peak_mib` is the highest memory of the whole process, Python and torch included.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WINDOW = 32


@dataclass(frozen=True)
class Shape:
    """One configuration.

    Attributes:
        mode: pretrain, finetune or infer.
        model: tiny, base or large; the published network is base.
        tile: What `infer` does with a tile larger than a window: `whole` (parity) or `windows` (ours).
        batch, dates, bands, size, classes: B, T, C, H and W, K.
        precision: float32 or bfloat16; the published code knows float32 alone.
        threads: Of the CPU.
        device: cpu or cuda.
    """

    mode: str
    model: str
    tile: str
    batch: int
    dates: int
    bands: int
    size: int
    classes: int
    precision: str
    threads: int
    device: str


def ours(shape: Shape) -> Callable[[], None]:
    """A function that takes a step of our network."""
    import torch

    from stcln.model.checkpoint import Card
    from stcln.model.compute import pick
    from stcln.model.network import Config, build, build_reconstructor, reconstruction_loss
    from stcln.model.windows import predict_tile
    from stcln.study import Compute

    compute = pick(Compute(precision=shape.precision, threads=shape.threads))
    device = compute.device
    images, positions, hidden, labels = data(shape, device)
    valid = torch.ones(images.shape[:2] + images.shape[3:], dtype=torch.bool, device=device)
    config = Config.of(shape.model, shape.bands, shape.classes)
    if shape.mode == "pretrain":
        filler = build_reconstructor(config, 0).to(device)

        def loss() -> Any:
            with compute.autocast():
                predicted = filler(images, positions, hidden, valid)
            return reconstruction_loss(predicted, images, hidden)

        return training(filler, loss, clip=5.0)
    network = build(config, 0).to(device)
    if shape.mode == "finetune":

        def loss() -> Any:
            with compute.autocast():
                logits = network(images, positions, valid)
            return torch.nn.functional.cross_entropy(logits.float(), labels)

        return training(network, loss)
    network.eval()
    if shape.tile == "whole" or shape.size <= WINDOW:

        def whole() -> None:
            with torch.inference_mode(), compute.autocast():
                network(images, positions, valid)

        return whole
    card = Card(
        kind="classifier", size=shape.model, bands=tuple(f"B{n}" for n in range(shape.bands)),
        classes=tuple(str(n) for n in range(shape.classes)), mean=(0.0,) * shape.bands, std=(1.0,) * shape.bands,
        window=WINDOW, method={}, length={}, length_name="", season="", season_start="01-01", seed=0,
    )  # fmt: skip
    reflectance = (images * 1000).to(torch.int16).cpu().numpy()

    def windows() -> None:
        for b in range(shape.batch):
            predict_tile(network, card, reflectance[b], valid[b].cpu().numpy(), positions[b].cpu().numpy(), compute)

    return windows


def published(shape: Shape, directory: Path) -> Callable[[], None]:
    """A function that takes a step of the published network, its calls of `.cuda()` made harmless from outside."""
    import torch

    if shape.device == "cpu":
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    spec = importlib.util.spec_from_file_location("published_stcln", directory / "STCLN.py")
    assert spec and spec.loader
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    device = torch.device(shape.device)
    images, _, _, labels = data(shape, device)
    positions = torch.arange(shape.dates, device=device).repeat(shape.batch, 1)
    encoder = code.UTAE(
        n_channels=shape.bands, n_classes=shape.classes, bilinear=True, encoder_widths=[32, 256],
        decoder_widths=[32, 256], agg_mode="att_mean", n_head=8, d_model=256, d_k=32,
    )  # fmt: skip
    if shape.mode == "pretrain":
        filler = code.UTAEPrediction(encoder, num_features=shape.bands, dropout=0.4).to(device)
        green = torch.ones(images.shape, dtype=torch.int32, device=device)

        def loss() -> Any:
            output, _, target, mask = filler(images, green, positions)
            error = torch.nn.functional.mse_loss(output, target, reduction="none")
            return (error * (1 - mask)).sum() / ((1 - mask).sum() + 1e-20)

        return training(filler, loss, clip=5.0, fused=False)
    network = code.UTAEClassification(encoder).to(device)
    if shape.mode == "finetune":
        return training(
            network, lambda: torch.nn.functional.cross_entropy(network(images, positions)[0], labels), fused=False
        )
    network.eval()

    def infer() -> None:
        with torch.no_grad():
            network(images, positions)

    return infer


def data(shape: Shape, device: Any) -> tuple[Any, ...]:
    """Random images, positions in days, a mask of 40 % (true = HIDDEN) and labels."""
    import torch

    rng = torch.Generator().manual_seed(0)
    B, T, C, S = shape.batch, shape.dates, shape.bands, shape.size
    images = torch.randn((B, T, C, S, S), generator=rng)
    positions = torch.linspace(0, 360, T).long().repeat(B, 1)
    hidden = torch.rand((B, T, S, S), generator=rng) < 0.4
    labels = torch.randint(shape.classes, (B, S, S), generator=rng)
    return tuple(tensor.to(device) for tensor in (images, positions, hidden, labels))


def training(
    network: Any, loss: Callable[[], Any], clip: float | None = None, fused: bool = True
) -> Callable[[], None]:
    """A function that takes a training step."""
    import torch

    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused)
    network.train()

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()

    return step


def worker(line: Connection, shape: Shape, directory: Path | None) -> None:
    """Take a step whenever asked; at the end tell FLOPs (once, counted by torch) and the highest memory."""
    os.environ.setdefault("OMP_NUM_THREADS", str(shape.threads))
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(shape.threads)
    step = ours(shape) if directory is None else published(shape, directory)
    cuda = shape.device == "cuda"
    while line.recv():
        clock, busy = time.perf_counter(), time.process_time()
        step()
        if cuda:
            torch.cuda.synchronize()
        line.send((time.perf_counter() - clock, time.process_time() - busy))
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line.send((peak / 2**20, None))
    with FlopCounterMode(display=False) as counter:
        step()
    line.send((counter.get_total_flops(), None))


class Racer:
    """A process that takes steps."""

    def __init__(self, shape: Shape, directory: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self.process = context.Process(target=worker, args=(other, shape, directory), daemon=True)
        self.process.start()
        other.close()
        self.seconds: list[float] = []
        self.busy: list[float] = []

    def step(self, *, counted: bool) -> None:
        """One step; those that warm up are not counted."""
        seconds, busy = self._ask(True)
        if counted:
            self.seconds.append(seconds)
            self.busy.append(busy)

    def end(self) -> dict[str, float]:
        """What was measured."""
        peak, flops = self._ask(False)[0], self.line.recv()[0]
        self.process.join()
        low, middle, high = min(self.seconds), statistics.median(self.seconds), max(self.seconds)
        return {
            "seconds": round(middle, 4), "fastest": round(low, 4), "slowest": round(high, 4),
            "cpu_seconds": round(statistics.median(self.busy), 4), "peak_mib": round(peak),
            "gflop": round(flops / 1e9, 1),
        }  # fmt: skip

    def _ask(self, more: bool) -> Any:
        try:
            self.line.send(more)
            return self.line.recv()
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"the step's process ended with {self.process.exitcode}: its last lines say why") from None


def peak_rate(shape: Shape) -> float:
    """GFLOP/s of the best of several large matrix products in the shape's precision on its device."""
    import torch

    torch.set_num_threads(shape.threads)
    cuda = shape.device == "cuda"
    side, best = 8192 if cuda else 2048, float("inf")
    if not cuda and shape.precision == "bfloat16":
        side = 512  # without units for it, a CPU takes minutes for more
    left, right = (torch.randn(side, side, device=shape.device, dtype=getattr(torch, shape.precision)) for _ in "ab")
    for _ in range(6):
        clock = time.perf_counter()
        left @ right
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - clock)
    return 2 * side**3 / best / 1e9


def race(shape: Shape, directory: Path | None, steps: int, warm_up: int) -> dict[str, Any]:
    """Measure one configuration, in turn with the published network where its directory is given."""
    rate = peak_rate(shape)
    racers = {"ours": Racer(shape)}
    if directory is not None:
        racers["published"] = Racer(replace(shape, precision="float32"), directory)
    for number in range(warm_up + steps):
        for racer in racers.values():
            racer.step(counted=number >= warm_up)
    found = {name: racer.end() for name, racer in racers.items()}
    line: dict[str, Any] = {**asdict(shape), "steps": steps, "peak_gflops": round(rate, 1)}
    for name, measured in found.items():
        measured["of_peak"] = round(measured["gflop"] / measured["seconds"] / rate, 3)
        line[name] = measured
    if directory is not None:
        line["times_as_fast"] = round(found["published"]["seconds"] / found["ours"]["seconds"], 2)
        line["times_as_fast_cpu"] = round(found["published"]["cpu_seconds"] / found["ours"]["cpu_seconds"], 2)
        line["times_the_memory"] = round(found["ours"]["peak_mib"] / found["published"]["peak_mib"], 2)
    return line


def configurations(options: argparse.Namespace) -> Iterator[Shape]:
    """Every combination of what was asked for."""
    for mode, batch, dates, size, precision, threads in product(
        options.mode, options.batch, options.dates, options.size, options.precision, options.threads
    ):
        yield Shape(
            mode, options.model, options.tile, batch, dates, options.bands, size, options.classes, precision, threads,
            options.device,
        )  # fmt: skip


def natural(text: str) -> int:
    """A whole number from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a JSON line a configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = ["pretrain", "finetune", "infer"]
    parser.add_argument("--mode", nargs="+", choices=modes, default=modes)
    parser.add_argument("--model", choices=["tiny", "base", "large"], default="base")
    parser.add_argument("--tile", choices=["whole", "windows"], default="windows")
    for name, default in (("batch", 1), ("dates", 30), ("size", 32), ("threads", len(os.sched_getaffinity(0)))):
        parser.add_argument(f"--{name}", nargs="+", type=natural, default=[default])
    parser.add_argument("--bands", type=natural, default=10)
    parser.add_argument("--classes", type=natural, default=20)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=natural, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--published", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.published and options.model != "base":
        parser.error("--published: the published network is --model base")
    for shape in configurations(options):
        print(json.dumps(race(shape, options.published, options.steps, options.warm_up)), flush=True)


if __name__ == "__main__":
    main()
