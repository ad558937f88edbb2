"""SIGINT and SIGTERM: where a program ends for them, and what is saved first.

A handler in Python runs between two instructions of the interpreter, and a training step on a CPU may be one call of
C++ for half a minute. So a thread listens too: where the main thread does not get to saving, it saves in its place.
"""

import atexit
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 1.5
"""Seconds that the main thread of a program has after a signal to save and end, before it is ended from beside."""
SAVING = 10.0
"""Seconds more where it is in the midst of a save, or of what must not be halved."""


class Stopped(BaseException):
    """A signal asked the program to end: what is half written is swept away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def status(self) -> int:
        """The exit status: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.number

    def __str__(self) -> str:
        return self.line("; run it again to go on.")

    def line(self, rest: str) -> str:
        """The last line of the program: that it was stopped, and the rest of the sentence."""
        sentence = f"stopped by {self.number.name}{rest}"
        event = {"event": "stopped", "signal": self.number.name, "message": sentence}
        return json.dumps(event) if _as_json else f"stcln: {sentence}"


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise Stopped(number)


_as_json = False


@contextmanager
def signals(*, as_json: bool = False) -> Iterator[None]:
    """For a program: within, SIGINT and SIGTERM raise `Stopped` in the main thread, which says so in text or JSON."""
    global _as_json
    _as_json = as_json
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(stopped: Stopped) -> NoReturn:
    """Print the sentence and end the process, but for the interpreter's own clearing up: torch's takes seconds."""
    print(stopped, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(stopped.status)


class Guard:
    """What lies between a signal and a training: a signal waits while something is half done, then the state is saved.

    It takes over the handlers of `signals`, and Python's own of SIGINT, which raises `KeyboardInterrupt`; any other
    stays. Only for a program the process is ended from beside: a notebook's is not ours to end.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # held by whoever changes the state, or saves it
        self._save: Callable[[], object] | None = None
        self._whole = False
        self._waiting: int | None = None
        self._ended = False
        self.quiet = False
        """Whether another process tells the user that the program was stopped."""
        ours = (_raise, signal.default_int_handler)
        self._before = {number: found for number in SIGNALS if (found := signal.getsignal(number)) in ours}

    @contextmanager
    def saving(self, save: Callable[[], object]) -> Iterator[None]:
        """Within, a signal calls `save` once, here or in another thread, before it ends the program."""
        self._save = save
        try:
            yield
        except (Stopped, KeyboardInterrupt):
            with self._lock:
                save()
            raise
        finally:
            self._save = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within, no signal is let through and nobody saves."""
        self._whole = True
        try:
            with self._lock:
                yield
        finally:
            self._whole = False
            if self._waiting is not None:
                self._end(self._waiting)

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """Within, signals come here; to be called in the main thread."""
        program = _raise in self._before.values()
        try:
            for number in self._before:
                signal.signal(number, self._handle)
            with self._watched() if program else nullcontext():
                yield
        finally:
            if not (program and self._ended):  # else a second signal would break what the first one's way out does
                for number, handler in self._before.items():
                    signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._whole:
            self._waiting = number
        elif not self._ended:
            self._end(number)

    def _end(self, number: int) -> None:
        self._waiting, self._ended = None, True
        handler = self._before[signal.Signals(number)]
        assert callable(handler)
        handler(number, None)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Within, a thread is told of signals by the C-level handler, which needs no interpreter to run."""
        listen, tell = os.pipe()
        os.set_blocking(tell, False)
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(listen, over), daemon=True, name="interrupt")
        thread.start()
        before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            over.set()
            os.write(tell, b"\0")
            thread.join()
            os.close(listen)
            os.close(tell)

    def _watch(self, listen: int, over: threading.Event) -> None:
        while (number := os.read(listen, 1)[0]) not in self._before:
            if over.is_set():
                return
        if over.wait(PATIENCE):
            return
        stopped = Stopped(number)
        try:
            if self._lock.acquire(timeout=SAVING) and self._save is not None:
                self._save()  # the lock is kept: the main thread changes nothing any more
            if not self.quiet:
                _say(str(stopped))
        except Exception as error:
            _say(stopped.line(f", the state was not saved, an earlier one stands: {error}"))
        finally:
            os._exit(stopped.status)


def _say(sentence: str) -> None:
    """Print without the locks of `sys.stderr`, which the main thread may hold; a bar may have hidden the cursor."""
    shown = "\x1b[?25h\n" if os.isatty(2) else ""
    os.write(2, f"{shown}{sentence}\n".encode())


_on_duty: Guard | None = None


@contextmanager
def stoppable() -> Iterator[Guard]:
    """The guard on duty, or a new one until the end of the block. A function that trains may be decorated with it.

    Signals come to the main thread alone, so that in another thread the guard has nothing to do.
    """
    global _on_duty
    if threading.current_thread() is not threading.main_thread():
        yield Guard()
    elif _on_duty is not None:
        yield _on_duty
    else:
        guard = Guard()
        with guard.on_duty():
            _on_duty = guard
            try:
                yield guard
            finally:
                _on_duty = None
