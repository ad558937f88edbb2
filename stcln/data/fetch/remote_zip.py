"""A zip at its source, read without fetching it: its directory, and then the bytes of a few members."""

import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from stcln.data.fetch.archives import checked, extract
from stcln.data.fetch.line import Line
from stcln.data.fetch.members import sound
from stcln.data.fetch.sources import RangeFile, Remote, Source, open_source

GAP = 1 << 16  # bytes between two members that are rather read than a second request made
LOCAL = 1 << 16  # bytes that a member's own header may have


class RemoteZip:
    """A zip at its source.

    Attributes:
        where: Its address.
        members: Its files by name, in the order in which they lie in it.

    Args:
        remote: The file.
        line: Hears of every wait.

    Raises:
        BadInput: The server hands out no ranges, or the archive is broken or unsafe.
    """

    def __init__(self, remote: Remote, line: Line) -> None:
        self.where, self.name, self.line = remote.url, remote.name, line
        self.file = _Ahead(open_source(remote, line), remote.url)
        with sound(self.where):
            self.packed = zipfile.ZipFile(self.file)
            members = checked(self.packed, self.where, self.file.size)
        ends = [*(member.header_offset for member in members[1:]), self.packed.start_dir]
        self.ends = {member.filename: end for member, end in zip(members, ends, strict=False)}
        self.members = {member.filename: member for member in members if not member.is_dir()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.packed.close()

    def extract(self, names: Iterable[str], target: Path) -> None:
        """Write members below `target`, but for those that stand there; members that lie close are one request.

        Raises:
            BadInput: A member is broken, the source stays away, or the disk is too small.
        """
        wanted = set(names)
        members = [member for name, member in self.members.items() if name in wanted]
        self.file.expect((member.header_offset, self._end(member)) for member in members)
        with sound(self.where):
            extract(self.packed, members, target, self.where, f"parts of {self.name}", self.line.reporter)

    def _end(self, member: zipfile.ZipInfo) -> int:
        return min(self.ends[member.filename], member.header_offset + member.compress_size + LOCAL)


class _Ahead(RangeFile):
    """A file at its source of which a few spans will be read, each by one request as it streams by."""

    def __init__(self, source: Source, url: str) -> None:
        super().__init__(source, url)
        self.spans: list[tuple[int, int]] = []
        self.stream: Iterator[bytes] = iter(())
        self.next, self.end, self.held = 0, 0, b""  # next byte to give, the stream's last, and what has come of it

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Say what will be read: begin and end of every span, ascending; those that lie close become one."""
        self.spans = []
        for begin, end in spans:
            if self.spans and begin - self.spans[-1][1] <= GAP:
                self.spans[-1] = (self.spans[-1][0], end)
            else:
                self.spans.append((begin, end))

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes; the bytes read."""
        view = memoryview(buffer).cast("B")
        at = bisect_right(self.spans, (self.at, self.size)) - 1
        if at < 0 or self.at >= self.spans[at][1]:
            return super().readinto(buffer)
        end = self.spans[at][1]
        if end != self.end or not self.next <= self.at <= self.next + GAP:
            self.next, self.end, self.held = self.at, end, b""
            self.stream = self.source.read(self.at, end)
        while self.next < self.at and self._take(self.at - self.next):
            pass
        filled = 0
        while filled < len(view) and (piece := self._take(len(view) - filled)):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        self.at += filled
        return filled

    def _take(self, most: int) -> bytes:
        """Up to `most` of the stream's bytes; none at its end."""
        if not self.held:
            self.held = next(self.stream, b"")
        taken, self.held = self.held[:most], self.held[most:]
        self.next += len(taken)
        return taken
