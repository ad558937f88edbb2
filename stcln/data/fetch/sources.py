"""A file at its source: read in ranges, or as if it were a file here."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from stcln.data.fetch.elsewhere import ElsewhereSource
from stcln.data.fetch.line import Line
from stcln.data.fetch.web import WebSource
from stcln.errors import BadInput


@dataclass(frozen=True)
class Remote:
    """A file at a source, before anybody asked for it.

    Attributes:
        name: Path below the archive's directory, posix.
        url: Where it is.
        size: Bytes, if the source tells.
        md5: Its checksum, if known.
        version: As `Source.version`, where a listing tells it; else empty.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    version: str = ""


class Source(Protocol):
    """A file that was found at its source. Safe to read from several threads at once."""

    size: int | None
    version: str
    ranges: bool

    def read(self, start: int, end: int | None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (None: all that come), tried again where the line breaks.

        Raises:
            Changed: The file is no longer the one that was opened.
            BadInput: The source refuses, or stays away.
        """


def open_source(remote: Remote, line: Line | None = None) -> Source:
    """Find a file: http(s) by a request for its first byte, all else through fsspec.

    Args:
        remote: The file.
        line: Hears of every wait, and can be stopped; none: nobody listens.

    Raises:
        BadInput: It is missing, access is refused, the source stays away, or the size is not the one announced.
    """
    web = remote.url.startswith(("http://", "https://"))
    source: Source = (WebSource if web else ElsewhereSource)(remote.url, line or Line())
    if None not in (remote.size, source.size) and remote.size != source.size:
        raise BadInput(remote.url, f"{source.size} bytes, {remote.size} were announced", "run it again, or get another")
    return source


class RangeFile(io.RawIOBase):
    """A file at its source as a seekable, read-only file; every read is one request, so buffer it.

    Raises:
        BadInput: The source hands out no ranges or does not tell the size.
    """

    def __init__(self, source: Source, url: str) -> None:
        super().__init__()
        if not source.ranges or source.size is None:
            raise BadInput(url, "the server hands out no parts of files", "fetch the whole archive")
        self.source, self.size, self.at = source, source.size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte; the new place."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        if at < 0:
            raise ValueError(f"byte {at} lies before the file")
        self.at = at
        return at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes; the bytes read."""
        view = memoryview(buffer).cast("B")
        end = min(self.at + len(view), self.size)
        filled = 0
        for chunk in self.source.read(self.at, end) if end > self.at else ():
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        self.at += filled
        return filled
