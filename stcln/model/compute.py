"""The machine a step runs on: device, precision, threads, and generators that depend on the study's seed alone."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from stcln.cores import cores
from stcln.study import Compute


@dataclass(frozen=True)
class Device:
    """Where to compute and in which precision."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[object]:
        """A context for forward passes: products in `dtype`, statistics and sums in float32. Weights stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @property
    def name(self) -> str:
        """For records of a run: `cuda NVIDIA ..., bfloat16`."""
        hardware = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{hardware}, {str(self.dtype).removeprefix('torch.')}"


def pick(compute: Compute) -> Device:
    """CUDA if there is one, else the CPU, which repeats bit for bit; the precision asked for, or what is fast there."""
    torch.set_num_threads(compute.threads or cores())
    # `use_deterministic_algorithms` does the same and loads the compiler, half a second, which nothing here uses.
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if compute.precision == "auto":
        return Device(device, torch.bfloat16 if _has_bfloat16(device) else torch.float32)
    return Device(device, torch.float32 if compute.precision == "float32" else torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def stream_seed(seed: int, *stream: int | str) -> int:
    """A seed for one use of randomness, named by `stream` (`"mask", epoch, step`); other names, independent draws."""
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *stream: int | str) -> torch.Generator:
    """A CPU generator for one use of randomness; see `stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, *stream))


@contextmanager
def randomness(device: torch.device, seed: int, *stream: int | str) -> Iterator[None]:
    """Within, torch's own generators (dropout knows no other) start from the stream's seed; after, they are as before.

    Around one training step it makes the step depend on its number alone, so a resumed run equals an unbroken one.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, *stream))
        yield
