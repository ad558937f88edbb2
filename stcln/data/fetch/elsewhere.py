"""Files beyond the web, wherever fsspec reaches: s3, gs, file, memory."""

from collections.abc import Iterator
from typing import Any

import fsspec

from stcln.data.fetch.line import Line, Stopped, changed
from stcln.errors import BadInput, no_answer

PIECE = 1 << 22  # bytes asked for at once
STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
REFUSED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
SENSELESS = (ImportError, ValueError, TypeError, NotImplementedError)


class ElsewhereSource:
    """A file at an fsspec address.

    Attributes:
        size: Bytes, if the file system tells.
        version: What the file system gives as its ETag, or when it was changed.
        ranges: True where the size is known.

    Raises:
        BadInput: The file is missing, access is refused, or the file system stays away.
    """

    def __init__(self, url: str, line: Line) -> None:
        self.url, self.line = url, line
        self.system, self.path = system_of(url)
        found = self._info()
        self.size: int | None = found.get("size")
        self.version = stamp(found)
        self.ranges = self.size is not None

    def read(self, start: int, end: int | None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (None: the file's end).

        Raises:
            Changed: The file is no longer the one that was opened.
            BadInput: Access is refused, or the file system stays away.
            Stopped: The line was stopped.
        """
        begin, end = start, self.size if end is None else end
        patience = self.line.patience(self.url)
        while end is None or start < end:
            if self.line.stopped.is_set():
                raise Stopped
            try:
                stop = start + PIECE if end is None else min(start + PIECE, end)
                piece = self.system.cat_file(self.path, start=start, end=stop)
            except Exception as error:  # every file system has kinds of its own
                refuse(self.url, error)
                patience = patience.after(error)
                continue
            if not piece:
                break
            self.line.arrived += 1
            start, patience = start + len(piece), self.line.patience(self.url)
            yield piece
        if end is not None and start < end:
            raise changed(self.url, f"it ends at byte {start}, before byte {end}")
        if begin > 0 or start - begin > PIECE or start != self.size:  # not the whole file at once
            self._unchanged()

    def _unchanged(self) -> None:
        self.system.invalidate_cache(self.path)
        found = self._info()
        if (stamp(found), found.get("size")) != (self.version, self.size):
            raise changed(self.url, f"version {self.version}, now {stamp(found)}")

    def _info(self) -> dict[str, Any]:
        patience = self.line.patience(self.url, first=True)
        while True:
            try:
                return dict(self.system.info(self.path))
            except Exception as error:
                refuse(self.url, error)
                patience = patience.after(error)


def system_of(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        BadInput: The address makes no sense, what it needs is not installed, or nobody answers.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (*SENSELESS, OSError) as error:
        problem, remedy = f"{url}: {error}", "install what the address needs, or correct it"
        raise BadInput("params.yaml, field dataset.source", problem, remedy) from None
    return system, path


def stamp(found: dict[str, Any]) -> str:
    """The version of a file from fsspec's description of it; empty if it tells none."""
    return str(next((found[key] for key in STAMPS if found.get(key)), ""))


def refuse(url: str, error: Exception) -> None:
    """Pass over what another try may mend.

    Raises:
        BadInput: No other try would.
    """
    if isinstance(error, REFUSED) or any(word in type(error).__name__ for word in ("Credential", "Profile")):
        raise no_answer(url, error) from None
    if isinstance(error, SENSELESS):
        raise BadInput(url, f"{type(error).__name__}: {error}", "correct dataset.source") from None
