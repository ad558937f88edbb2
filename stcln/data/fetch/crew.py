"""Several jobs at once in threads, while the calling thread watches; the first that fails ends all."""

import threading
from collections.abc import Callable, Iterable

from stcln.data.fetch.line import Line

Job = Callable[[], None]
BEAT = 0.1  # seconds between two looks of the watcher
MOMENT = 1.0  # seconds


def work_off(jobs: Iterable[Job], hands: int, line: Line, watch: Callable[[], bool | None]) -> None:
    """Do all jobs, `hands` at once, in order of their start.

    When one failed or the caller is interrupted, the others have a moment to end. Those that wait for a server longer
    than that are left to themselves: what they still bring must not matter.

    Args:
        jobs: What to do.
        hands: Threads.
        line: Stopped when the calling thread is interrupted, so that no thread goes on waiting.
        watch: Called again and again; true if it wants to be called again at once.

    Raises:
        BaseException: Whatever the first failing job or `watch` raised.
    """
    queue, lock = iter(jobs), threading.Lock()
    failed: list[BaseException] = []
    ended: list[None] = []
    changed = threading.Condition()

    def work() -> None:
        try:
            while not failed:
                with lock:
                    job = next(queue, None)
                if job is None:
                    break
                job()
        except BaseException as error:
            failed.append(error)
        with changed:
            ended.append(None)
            changed.notify()

    try:
        for number in range(hands):
            threading.Thread(target=work, name=f"fetch-{number}", daemon=True).start()
        while not failed and len(ended) < hands:
            again = watch()
            with changed:
                if not (again or failed or len(ended) == hands):
                    changed.wait(BEAT)
    except BaseException:
        line.stopped.set()
        raise
    finally:
        with changed:
            changed.wait_for(lambda: len(ended) == hands, MOMENT)
    if failed:
        raise failed[0]
