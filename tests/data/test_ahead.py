"""Threads that work ahead: order, bounds, errors and ends."""

import threading
from functools import partial
from itertools import count

import pytest

from stcln.data import ahead as module
from stcln.data.ahead import ahead, readers
from stcln.study import Compute


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_results_come_in_order_whichever_thread_is_done_first():
    """Each even job waits for the odd one behind it, which another thread must have done by then."""
    done = [threading.Event() for _ in range(20)]

    def job(number: int) -> int:
        if number % 2 == 0:
            assert done[number + 1].wait(30)
        done[number].set()
        return number

    assert list(ahead((partial(job, n) for n in range(20)), threads=3)) == list(range(20))


def test_no_more_than_a_few_results_wait_to_be_taken():
    begun: list[int] = []
    stream = ahead((partial(begun.append, n) for n in count()), threads=3)
    for taken in range(1, 30):
        next(stream)
        assert taken <= len(begun) <= taken + 3
    stream.close()


def test_an_error_stands_where_its_result_would_and_ends_the_threads():
    def job(number: int) -> int:
        if number == 3:
            raise ValueError("tile t03 is torn")
        return number

    stream = ahead((partial(job, n) for n in count()), threads=2)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="tile t03 is torn"):
        next(stream)
    assert not alive()


def test_closed_midway_it_drops_what_has_not_begun_and_ends_its_threads():
    begun: list[int] = []
    gate = threading.Event()

    def job(number: int) -> int:
        begun.append(number)
        if number:
            gate.wait(30)
        return number

    stream = ahead((partial(job, n) for n in range(9)), threads=2)
    assert next(stream) == 0
    gate.set()
    stream.close()
    assert not alive() and max(begun) < 4
    assert list(stream) == []


def test_as_many_threads_read_as_the_study_gives_cores_up_to_a_bound():
    assert readers(Compute(threads=3)) == 3
    assert readers(Compute(threads=500)) == module.MOST
