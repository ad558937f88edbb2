"""Worker processes for tasks that do not depend on one another. What the tasks are is not known here.

Workers do not see the SIGINT of a terminal: the process that started them does, and they end with it, however it ends.
"""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from stcln.cores import cores, free_memory
from stcln.errors import BadInput

WORKER_BYTES = 1 << 30
Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Work(Protocol[Task, Result]):
    """What is done; it is pickled on its way to a worker."""

    def start(self) -> Callable[[Task], Result]:
        """Called once in every worker: returns what does a task."""


def most(asked: int | None) -> int:
    """So many workers, at least one: those asked for, or one a core, as far as memory is there for them."""
    return max(1, min(asked or cores(), free_memory() // WORKER_BYTES))


def run(work: Work[Task, Result], tasks: Sequence[Task], workers: int) -> Generator[Result]:
    """Do all tasks and yield what comes of each, in the order they end.

    Args:
        work: What is done; an error in it ends all.
        tasks: What is to be done.
        workers: Number of processes.

    Raises:
        BadInput: A worker was killed.
    """
    with _pool(work, workers) as submit:
        with _no_interrupt():  # workers are started here, and inherit it
            futures = [submit(task) for task in tasks]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BrokenProcessPool:
            problem = "it was killed, as the system does when memory runs out"
            remedy = "free memory or lower compute.threads, and run the step again: what is done is kept"
            raise BadInput("a worker process", problem, remedy) from None


@contextmanager
def _pool(work: Work[Any, Any], workers: int) -> Iterator[Callable[[Any], Future[Any]]]:
    watched, lifeline = Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (watched, pickle.dumps(work)))
    with lifeline, watched, pool:
        try:
            yield lambda task: pool.submit(_done, task)
        except BaseException:  # a signal, too: no task is waited for
            lifeline.close()
            raise


@contextmanager
def _no_interrupt() -> Iterator[None]:
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # that sweeps after killed workers: quietly
    resource_tracker.ensure_running()  # else it starts with the workers and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work = b""  # of a worker, pickled: what it imports takes longer than what ends it may
_do: Callable[[Any], Any] | None = None


def _begin(watched: Connection, work: bytes) -> None:
    global _work
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    _work = work


def _done(task: Any) -> Any:
    global _do
    _do = _do or pickle.loads(_work).start()  # here its errors are the task's
    return _do(task)


def _end_with(watched: Connection) -> None:
    """End this process when the other end of the pipe is closed, by its holder or by its holder's end."""
    try:
        watched.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
