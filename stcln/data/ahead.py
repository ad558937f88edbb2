"""Work done by threads before its result is asked for: what the reading of windows hides behind training."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from stcln.cores import cores
from stcln.study import Compute

MOST = 8  # threads; reading and decoding run without the interpreter's lock, the rest of them does not
Result = TypeVar("Result")


def readers(compute: Compute) -> int:
    """How many threads read: one a core that this process may use, up to `MOST`."""
    return min(compute.threads or cores(), MOST)


def ahead(jobs: Iterable[Callable[[], Result]], threads: int) -> Generator[Result]:
    """The results of some jobs, in order; at most `threads` + 1 of them wait to be taken.

    A job's error is raised where its result would stand. Close the iterator to end the threads: jobs that have not
    begun are dropped.

    Args:
        jobs: Functions that may run at once; there may be infinitely many.
        threads: How many run at once.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
