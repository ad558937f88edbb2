"""How far a download is: bytes, rate and time left, over all its files."""

import threading
import time
from collections import deque

from stcln.events import Reporter, Value

EVERY = 0.5  # seconds between two reports
WINDOW = 20.0  # seconds over which the rate is taken


class Progress:
    """Counts what arrives, in any thread, and tells it.

    Args:
        reporter: Hears of it.
        what: What is told of.
        total: Bytes expected; files whose size is not known beforehand add theirs with `expect`.
    """

    def __init__(self, reporter: Reporter, what: str, total: int) -> None:
        self.reporter, self.what, self.total, self.done = reporter, what, total, 0
        self.lock = threading.Lock()
        self.told = -1.0
        self.past: deque[tuple[float, int]] = deque()

    def expect(self, more: int) -> None:
        """So many bytes more than known before."""
        with self.lock:
            self.total += more

    def have(self, count: int) -> None:
        """So many bytes were there before, or (negative) must come again; they do not count into the rate."""
        with self.lock:
            self.done += count
            self.past = deque((at, done + count) for at, done in self.past)

    def came(self, count: int) -> None:
        """So many bytes arrived."""
        with self.lock:
            self.done += count

    def tell(self, last: bool = False) -> None:
        """Report, but not too often."""
        now = time.monotonic()
        if not last and now - self.told < EVERY:
            return
        self.told = now
        with self.lock:
            done, total = self.done, max(self.total, self.done)
            self.past.append((now, done))
            while now - self.past[0][0] > WINDOW:
                self.past.popleft()
            (begin, before) = self.past[0]
        values: dict[str, Value] = {}
        if (rate := (done - before) / max(now - begin, 1e-9)) > 0 and not last:
            values = {"MB/s": round(rate / 1e6, 2), "left": _time((total - done) / rate)}
        self.reporter.progress(self.what, done, total, values)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
