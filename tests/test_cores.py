"""What a process may take of its machine, as affinity and control groups say it."""

import os
from pathlib import Path

import pytest
import torch

from stcln import cores
from stcln.model.compute import pick
from stcln.study import Compute

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores with 20 GiB free, and this process in the group a/b."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "own").write_text("4:memory:/old\n0::/a/b\n")
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {20 << 20} kB\n")
    for name, place in (("GROUPS", tmp_path), ("GROUP", tmp_path / "own"), ("MEMORY", tmp_path / "meminfo")):
        monkeypatch.setattr(cores, name, place)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({}, 8),
        ({"": "250000 100000"}, 3),
        ({"a/b": "max 100000", "a": "50000 100000"}, 1),
        ({"c": "50000 100000"}, 8),
        ({"a/b": "6400000 100000"}, 8),
    ],
)
def test_cores_are_no_more_than_the_quotas_of_the_control_groups(
    tmp_path: Path, limits: dict[str, str], found: int
) -> None:
    for group, text in limits.items():
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(text)
    assert cores.cores() == found


@pytest.mark.parametrize(("team", "each"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_processes_of_one_machine_share_its_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, team: int, each: int
) -> None:
    (tmp_path / "a/cpu.max").write_text("400000 100000")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(team))
    assert cores.cores() == each


def test_a_step_computes_with_as_many_threads_as_its_quota_has_cores(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    (tmp_path / "a/cpu.max").write_text("300000 100000")
    try:
        pick(Compute())
        assert torch.get_num_threads() == 3
        pick(Compute(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({}, 20 * GIB),
        ({"a": (f"{5 * GIB}", f"anon {GIB}\nfile 7\n")}, 4 * GIB),
        ({"a/b": ("1000", "anon 900\n"), "a": (f"{GIB}", "anon 0\n")}, 100),
        ({"a/b": ("max", "")}, 20 * GIB),
    ],
)
def test_memory_is_what_machine_and_control_groups_leave(
    tmp_path: Path, limits: dict[str, tuple[str, str]], free: int
) -> None:
    for group, (most, stat) in limits.items():
        (tmp_path / group / "memory.max").write_text(most)
        (tmp_path / group / "memory.stat").write_text(stat)
    assert cores.free_memory() == free
