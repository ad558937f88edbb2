"""Several processes that train one network, as torchrun starts them. For one process nothing here does anything.

A step of a team is the step of one process, to rounding: the batch is divided, the statistics of BatchNorm are those of
all of it, losses and gradients are summed. The first process writes and tells; the others compute.
"""

import atexit
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from stcln.errors import BadInput
from stcln.training.batchnorm import blank, put_together

PATIENCE = timedelta(seconds=10)  # with the process that tells why the team ends
Value = TypeVar("Value")
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Team:
    """The processes that train together.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "Team":
        """The team of this process; itself alone unless it has `joined` one."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """What names this process's own random numbers: nothing where it is alone."""
        return (self.rank,) if self.size > 1 else ()

    def total(self, *own: Number) -> list[Number]:
        """Sums over the team of some numbers that every process has; integers are exact."""
        if self.size == 1:
            return list(own)
        numbers = torch.tensor(list(own), dtype=torch.float64 if isinstance(own[0], float) else torch.int64)
        dist.all_reduce(numbers)
        summed: list[Number] = numbers.tolist()
        return summed

    def turns(self, count: int) -> range:
        """Which of `count` things that each process does by itself are this one's."""
        return range(self.rank, count, self.size)

    def told(self, value: Value) -> Value:
        """The first process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def spread(self, network: nn.Module) -> nn.Module:
        """What to call in place of the network, so that gradients are the mean of the team's; its weights stay its own.

        Every process must then call it and go backward in every step, with whatever share of the batch it has.
        """
        if self.size == 1:
            return network
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name of broadcast_buffers is unknown to torch 2.6
            return DistributedDataParallel(put_together(network), broadcast_buffers=False, gradient_as_bucket_view=True)

    def sit_out(self, network: nn.Module, *, now: bool) -> None:
        """Say before a step whether this process has a blank sample in place of a share, which teaches nothing."""
        if self.size > 1:
            blank(network, now=now)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the sum of all processes' losses: what is spread averages them."""
        (self.size * loss).backward()  # type: ignore[no-untyped-call]


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the team that torchrun started, for the length of the block; processes of one machine share its cores.

    An error ends the team: the first process that meets one raises it, the others leave with its exit status.

    Raises:
        BadInput: There are more processes than GPUs, or another process has ended.
    """
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    store, rank, size = next(iter(rendezvous("env://")))
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, _own(sorted(cores), local, here))
        dist.init_process_group(_backend(local, here), store=store, rank=rank, world_size=size)
        yield
        Team.here().total(0)  # nobody leaves before the first has written
    except BaseException as error:
        ending = _once(store, _named(error))
        if ending is error:
            raise
        raise ending from error
    finally:
        os.sched_setaffinity(0, cores)
        if dist.is_initialized():
            dist.destroy_process_group()


def _own(cores: Sequence[int], local: int, here: int) -> Sequence[int]:
    """The cores of one process of `here`; some have to share where there are more processes."""
    each = max(1, len(cores) // here)
    first = local * each % len(cores)
    return cores[first : first + each]


def _backend(local: int, here: int) -> str:
    """NCCL for what lies on a GPU, one a process; gloo for the rest."""
    if not torch.cuda.is_available():
        return "gloo"
    if here > (gpus := torch.cuda.device_count()):
        raise BadInput("torchrun --nproc-per-node", f"{here} processes for {gpus} GPUs", "start one a GPU")
    torch.cuda.set_device(local)
    return "cpu:gloo,cuda:nccl"


def _named(error: BaseException) -> BaseException:
    """The error; what a collective raises when another process is gone, as a sentence."""
    lost = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    if not lost:
        return error
    where = f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
    return BadInput(where, "another process of the run has ended", "see why, and run it again to go on")


def _once(store: Any, error: BaseException) -> BaseException:  # a torch.distributed.Store, which mypy does not see
    """The error, in the first process of the team that ends by one; in the others the exit of that one, once it is."""
    status = getattr(error, "status", 1)
    try:
        if store.add("ends", 1) == 1:
            atexit.register(store.set, "status", str(status))
            return error
        for number in (signal.SIGINT, signal.SIGTERM):  # torchrun's, as soon as the first is gone
            signal.signal(number, signal.SIG_IGN)
        store.wait(["status"], PATIENCE)
        return SystemExit(int(store.get("status")))
    except dist.DistError:  # the store went with the machine that held it
        return error
