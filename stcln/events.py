"""What a running step tells: progress, metrics, notes. One protocol, several listeners.

A step knows only `Reporter`; whether a terminal, a JSON log or Dagster listens is decided outside.
"""

import json
import sys
from collections.abc import Mapping
from typing import IO, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Value = float | int | str


class Reporter(Protocol):
    """Listener of a step."""

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """`done` of `total` units of `what` are finished; `values` are the latest numbers (loss, rate)."""

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Something a user should read: a duplicate dropped, a tile rejected."""


class Silent:
    """Listens to nothing: for library use."""

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Ignore it."""

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Ignore it."""


class Within:
    """Tells another listener what a step within a step tells, under the inner one's name."""

    def __init__(self, outer: Reporter, name: str) -> None:
        self.outer, self.name = outer, name

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Pass progress on."""
        self.outer.progress(f"{self.name}: {what}", done, total, values)

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Pass a note on."""
        self.outer.note(f"{self.name}: {message}", values)


class JsonLines:
    """One JSON object a line, for machines: `{"event": "progress", "what": "epoch", "done": 3, ...}`."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Write a progress line."""
        self._write({"event": "progress", "what": what, "done": done, "total": total, **(values or {})})

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Write a note line."""
        self._write({"event": "note", "message": message, **(values or {})})

    def _write(self, record: dict[str, Value]) -> None:
        print(json.dumps(record), file=self.stream, flush=True)


class Terminal:
    """A progress bar a kind of work; notes above it. Without a terminal, a line at every tenth of the way."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"), console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        self.tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Move the bar of `what`."""
        text = values_text(values or {})
        if self.console.is_terminal:
            if what not in self.tasks:
                self.tasks[what] = self.bars.add_task(what, total=total, values="")
            self.bars.update(self.tasks[what], completed=done, total=total, values=text)
        elif (tenth := 10 * done // max(total, 1)) != self.tenths.get(what) or done == total:
            self.tenths[what] = tenth
            self.console.print(f"{what} {done}/{total}  {text}", highlight=False, markup=False, soft_wrap=True)

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Print the note above the bars."""
        text = values_text(values or {})
        self.console.print(f"{message}  {text}".rstrip(), highlight=False, markup=False, soft_wrap=True)


def values_text(values: Mapping[str, Value]) -> str:
    """Numbers and short texts on a line, floats with four digits."""
    return "  ".join(f"{key} {_short(value)}" for key, value in values.items())


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
