"""Worker processes for tasks that do not depend on one another."""

import os
from collections.abc import Callable
from dataclasses import dataclass

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


@pytest.mark.parametrize(("asked", "free", "workers"), [(None, 20, 8), (5, 20, 5), (64, 20, 20), (4, 0.5, 1)])
def test_workers_are_no_more_than_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, free: float, workers: int
) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 8)
    monkeypatch.setattr(pool, "free_memory", lambda: int(free * (1 << 30)))
    assert pool.most(asked) == workers
