"""Memory that runs out: how it is known, the parts a batch then goes through the network in, and the sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stcln.errors import BadInput
from stcln.study import Optimisation, Pretrain

REFUSALS = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE)
"""In the `RuntimeError` of an allocator: the CPU's, CUDA's, the libraries' under them."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(REFUSALS.search(str(error)))


def parts(samples: int, count: int) -> list[slice]:
    """So many parts of a batch, whose sizes differ by one at most; never more than one a sample."""
    count = min(samples, count)
    return [slice(samples * i // count, samples * (i + 1) // count) for i in range(count)]


@contextmanager
def refusals_of_memory(
    where: str, options: Optimisation, shape: tuple[int, ...] = (), count: int = 1
) -> Iterator[None]:
    """Tell that memory ran out, on what, and what to set.

    Args:
        where: `epoch 3, step 7`.
        options: What the run was asked for.
        shape: [B,T,H,W] of the step's batch, if there is one yet.
        count: Parts that it went through the network in.

    Raises:
        BadInput: In place of an allocator's error; any other passes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        section = "pretrain" if isinstance(options, Pretrain) else "finetune"
        B, T, H, W = shape or (options.batch, 0, options.window, options.window)
        dates = f" with {T} dates" if T else ""
        remedy = f"lower {section}.batch"
        if shape:  # parts divide a step, neither reading nor validation; a team does not find their number by itself
            parted = "a number such as 4" if options.accumulate == "auto" else "auto"
            remedy = f"set {section}.accumulate to {parted}, or {remedy}"
        if min(count, B) == B:
            remedy = f"lower {section}.window or the length's dates, or take a machine with more memory"
        problem = f"memory ran out on a batch of {B} windows of {H} x {W} pixels{dates}, {-(-B // count)} at once"
        raise BadInput(f"training, {where}", problem, remedy) from error
