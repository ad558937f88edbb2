"""What this process may take of its machine: cores and memory, by affinity and control groups (v2)."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

GROUPS, GROUP, MEMORY = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")


def cores() -> int:
    """How many cores: more threads than a quota allows would all be stopped for the rest of every tenth of a second.

    The processes that torchrun started on a machine share a quota; each has cores of its own already.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    found = [len(os.sched_getaffinity(0))]
    for _, text in _limits("cpu.max"):
        quota, period = map(int, text.split())
        found.append(max(1, math.ceil(quota / period) // here))
    return min(found)


def free_memory() -> int:
    """How many bytes."""
    found = [int(re.findall(r"MemAvailable: *(\d+)", MEMORY.read_text())[0]) * 1024]
    for group, text in _limits("memory.max"):
        taken = re.findall(r"^anon (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        found.append(int(text) - int(taken[0]))
    return min(found)


def _limits(name: str) -> Iterator[tuple[Path, str]]:
    """What limits this process: its control group and those around it, with the content of a file there."""
    own = re.search(r"^0::/(.*)$", GROUP.read_text(), re.MULTILINE) if GROUP.exists() else None
    inner = GROUPS / (own[1] if own else "")
    for group in (inner, *inner.parents):
        file = group / name
        if group.is_relative_to(GROUPS) and file.exists() and not (text := file.read_text()).startswith("max"):
            yield group, text
