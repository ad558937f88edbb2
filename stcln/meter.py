"""What a block of work takes of the machine: seconds, CPU seconds, memory, energy.

None of it is the same twice: it belongs into records of runs, never into a stage's output.
"""

import resource
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

WATTS = 12.0
"""Of a busy core, an assumption: the value of Lannelongue et al. 2021 (Green Algorithms) for a core of unknown kind."""
SOURCE = "Lannelongue et al. 2021, doi 10.1002/advs.202100707"
MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


class Meter:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._clock, self._cpu, self._gpus = time.perf_counter(), _cpu_seconds(), _gpu_joules()

    def read(self) -> dict[str, Any]:
        """Since it was made, of this process and of children that have ended.

        Returns:
            `seconds` by the clock; `cpu_seconds` of all threads; `peak_memory` in bytes, of the largest process, of
            all its life; `gpu_joules` by the card's own counter, null where it has none or `stcln[gpu]` is not
            installed, 0 where no GPU was used; `peak_gpu_memory` in bytes.
        """
        found: dict[str, Any] = {
            "seconds": round(time.perf_counter() - self._clock, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory": max(resource.getrusage(who).ru_maxrss for who in WHO) * MAXRSS,
            "gpu_joules": 0.0,
            "peak_gpu_memory": 0,
        }
        torch = sys.modules.get("torch")  # a step that did not need it must not pay for its import
        if torch is not None and torch.cuda.is_available():
            now, card = _gpu_joules(), f"GPU-{torch.cuda.get_device_properties().uuid}"
            both = card in now and card in self._gpus
            found["gpu_joules"] = round(now[card] - self._gpus[card], 3) if both else None
            found["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
        return found


def watt_hours(found: Mapping[str, Any]) -> float | None:
    """Estimated energy of what a meter read: CPU seconds x `WATTS`, and what the GPU counted; None if it did not."""
    if found["gpu_joules"] is None:
        return None
    return float(found["cpu_seconds"] * WATTS + found["gpu_joules"]) / 3600


def _cpu_seconds() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, WHO))


def _gpu_joules() -> dict[str, float]:
    """Joules since the driver was loaded, by the card's id; none without NVML or on a card that does not count them."""
    try:
        import pynvml
    except ImportError:
        return {}
    found: dict[str, float] = {}
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
            found[pynvml.nvmlDeviceGetUUID(card)] = pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
    return found
