"""The line to a source: how often something is tried again, how long is waited, and who hears of it."""

import threading
from dataclasses import dataclass, field
from typing import Any, Self

from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from stcln.errors import BadInput
from stcln.events import Reporter, Silent

FIRST = 7  # tries after the first before a source that never answered is given up: about a minute
LATER = 120  # the same in a row without a byte, once it has answered: about two hours
FACTOR = 0.5  # seconds; the second wait lasts twice as long, and each further one twice as long as the one before
LONGEST = 60.0  # seconds between two tries, unless the server asks for more
DAY = 86_400.0  # seconds that a server may ask for at most; older urllib3 hands on any number
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Changed(BadInput):
    """The file became another one while it was read."""


def changed(url: str, what: str) -> Changed:
    """That a file became another one."""
    return Changed(url, f"the file changed at the source while it was read: {what}", "run it again")


class Stopped(Exception):  # noqa: N818 - the user's wish is no error
    """Somebody asked the line to end."""


@dataclass(eq=False)
class Line:
    """What all readings of a fetch share.

    Attributes:
        reporter: Hears of every wait.
        stopped: Set, it ends every wait and every reading at the next bytes.
        arrived: How often bytes came, on any of them.
    """

    reporter: Reporter = field(default_factory=Silent)
    stopped: threading.Event = field(default_factory=threading.Event)
    arrived: int = 0

    def patience(self, url: str, first: bool = False) -> "Patience":
        """A fresh count of tries: of an address that has not answered yet (`first`), or of one that has."""
        return Patience(
            FIRST if first else LATER,
            backoff_factor=FACTOR,
            backoff_max=LONGEST,
            status_forcelist=AGAIN,
            allowed_methods=None,
            line=self,
            url=url,
            seen=self.arrived,
        )


class Patience(Retry):
    """urllib3's retries, of which the reporter hears and which end when the line is stopped."""

    def __init__(self, *args: Any, line: Line, url: str, seen: int, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.line, self.url, self.seen = line, url, seen

    def new(self, **changes: Any) -> Self:
        """A copy with another count."""
        return super().new(**{"line": self.line, "url": self.url, "seen": self.seen, **changes})

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait as long as the server asks (`Retry-After`, seconds or a date), else ever longer.

        Raises:
            Stopped: The line was stopped.
        """
        try:
            asked = self.get_retry_after(response) if response else None
        except InvalidHeader:
            asked = None
        seconds = self.get_backoff_time() if asked is None else min(asked, DAY)
        last = self.history[-1]
        why = f"HTTP {last.status}" if last.error is None else str(last.error)
        if seconds:  # what is tried at once is no news
            self.line.reporter.note(f"{self.url} is tried again", {"why": why, "after seconds": round(seconds, 1)})
        if self.line.stopped.wait(seconds):
            raise Stopped

    def after(self, error: Exception) -> Self:
        """Wait after a break; the count that is left.

        It begins anew where others on the line got bytes meanwhile: a server that serves few at once is not away.

        Raises:
            BadInput: It was the last try.
            Stopped: The line was stopped.
        """
        try:
            if isinstance(error, MaxRetryError):
                raise error
            left = self.increment("GET", self.url, error=error)
        except MaxRetryError as last:
            if self.line.arrived == self.seen:
                raise given_up(self.url, last) from None
            return self.new(total=LATER, history=(), seen=self.line.arrived)
        left.sleep()
        return left


def given_up(url: str, last: MaxRetryError) -> BadInput:
    """The sentence for a source that no longer answers."""
    problem = f"it was tried again and again and brought nothing, at last: {last.reason}"
    return BadInput(url, problem, "check the connection and run it again: it goes on where it stopped")
