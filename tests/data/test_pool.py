"""Worker processes for tasks that do not depend on one another."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stcln.data import pool
from stcln.errors import NoAnswer


@dataclass(frozen=True)
class Squares:
    """Work that squares numbers; a server does not answer where it should square `wrong`."""

    wrong: int = -1

    def start(self) -> Callable[[int], tuple[int, int]]:
        return self.squared

    def squared(self, number: int) -> tuple[int, int]:
        if number == self.wrong:
            raise NoAnswer("s3://bucket", "does not answer", "try again")
        return os.getpid(), number * number


def test_workers_do_every_task_once_and_share_them() -> None:
    found = list(pool.run(Squares(), range(200), 2))
    assert sorted(square for _, square in found) == [n * n for n in range(200)]
    assert os.getpid() not in {process for process, _ in found}


def test_what_a_task_raises_in_a_worker_is_raised_here() -> None:
    with pytest.raises(NoAnswer, match=r"^s3://bucket: does not answer; try again.$"):
        list(pool.run(Squares(wrong=7), range(20), 2))


@pytest.mark.parametrize(
    ("limits", "asked", "workers"),
    [
        ({}, None, 8),
        ({}, 5, 5),
        ({}, 64, 20),
        ({"": {"cpu.max": "250000 100000"}}, None, 3),
        ({"a/b": {"cpu.max": "max 100000"}, "a": {"cpu.max": "50000 100000"}}, None, 1),
        ({"a": {"memory.max": f"{5 << 30}", "memory.stat": f"anon {1 << 30}\nfile 7\n"}}, None, 4),
        ({"a/b": {"memory.max": "1000", "memory.stat": "anon 900\n"}}, 4, 1),
        ({"a/b": {"memory.max": "max"}, "c": {"cpu.max": "50000 100000"}}, None, 8),
    ],
)
def test_workers_are_no_more_than_cores_and_memory_of_the_control_groups_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, dict[str, str]], asked: int | None, workers: int
) -> None:
    for group, files in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / group / name).write_text(text)
    (tmp_path / "own").write_text("4:memory:/old\n0::/a/b\n")
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {20 << 20} kB\n")
    for name, place in (("GROUPS", tmp_path), ("GROUP", tmp_path / "own"), ("MEMORY", tmp_path / "meminfo")):
        monkeypatch.setattr(pool, name, place)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert pool.most(asked) == workers
