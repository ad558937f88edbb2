"""What the tests of distributed training run in every process, and how those are started without torchrun's seconds."""

import atexit
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from stcln import cli
from stcln.model import encoder, network
from stcln.training.batchnorm import TeamBatchNorm
from stcln.training.distributed import Team, joined

PARTS = (3, 0, 5)  # images of each of three processes
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["stcln.training.pretrain", "stcln.training.finetune", "torch._dynamo"])


def plain() -> None:
    """Leave dropout out, so that runs compare, and make the smallest size smaller."""
    encoder.DROPOUT = 0.0
    network._SIZES["tiny"] = (4, 16, 2, 1, 16)


def verb(*argv: str) -> None:
    """`python -m stcln ARGV`."""
    plain()
    sys.argv = ["stcln", *argv]
    cli.main()


def norms(directory: str) -> None:
    """A BatchNorm's step on a share of eight images; the second process has none of them, and a blank one instead."""
    with joined():
        x, gradient = (torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(2))
        norm, rank = TeamBatchNorm(3), dist.get_rank()
        norm.blank = not PARTS[rank]
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(4))
        mine = slice(sum(PARTS[:rank]), sum(PARTS[: rank + 1]))
        own = torch.full((1, 3, 4, 4), 9.0) if norm.blank else 5 + 3 * x[mine]
        own.requires_grad_()
        y = norm(own)
        y.backward(torch.zeros_like(y) if norm.blank else gradient[mine])
        state = {name: value.tolist() for name, value in norm.state_dict().items()}
        record = {"y": y.tolist(), "x": own.grad.tolist(), "weight": norm.weight.grad.tolist(), "state": state}
        record["gradients"] = gradients(own.detach(), blank=norm.blank)
        Path(directory, f"{rank}.json").write_text(json.dumps(record))


def small() -> nn.Module:
    """A network with a BatchNorm."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def gradients(own: torch.Tensor, *, blank: bool) -> list[object]:
    """Those of a step of the small network on all images together: the loss is a mean over eight."""
    here, net = Team.here(), small()
    spread = here.spread(net)
    here.sit_out(net, now=blank)
    here.backward((0 if blank else 1) * spread(own).square().sum() / sum(PARTS))
    return [parameter.grad.tolist() for parameter in net.parameters()]


class Started:
    """The processes of a team; what they said, together, is in `log`."""

    def __init__(self, log: Path, processes: list[BaseProcess]) -> None:
        self.log, self.processes = log, processes

    def statuses(self, seconds: float = 120) -> list[int | None]:
        """Exit statuses, minus the number of a signal that killed; None of a process that did not end in time."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def sentences(self) -> list[str]:
        """What stcln said on ending."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("stcln: ")]


@contextmanager
def team(size: int, log: Path, work: Callable[..., None], *words: str) -> Iterator[Started]:
    """Run work(*words) in so many processes with the variables that torchrun sets; none is left after the block."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
        "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0,
    }  # fmt: skip
    log.touch()
    places = [{key: str(value) for key, value in {**shared, "RANK": n, "LOCAL_RANK": n}.items()} for n in range(size)]
    processes = [FORKS.Process(target=_process, args=(place, log, work, words)) for place in places]
    for process in processes:
        process.start()
    try:
        yield Started(log, processes)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _process(place: dict[str, str], log: Path, work: Callable[..., None], words: tuple[str, ...]) -> None:
    os.environ.update(place)
    told = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(told, 1), os.dup2(told, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    try:
        work(*words)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
