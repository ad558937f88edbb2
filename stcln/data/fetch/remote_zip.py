"""A zip at its source, read without fetching it: its directory, and then the bytes of a few members."""

import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, Self

from stcln.data.fetch.archives import checked, extract, stands
from stcln.data.fetch.line import Line, Stopped
from stcln.data.fetch.members import sound
from stcln.data.fetch.sources import RangeFile, Remote, Source, open_source

LINES = 4  # pieces that come at once
PIECE = 1 << 23  # bytes of a piece at most
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
        self.file = _Ahead(open_source(remote, line), remote.url, line)
        with sound(self.where):
            self.packed = zipfile.ZipFile(self.file)
            members = checked(self.packed, self.where, self.file.size)
        ends = [*(member.header_offset for member in members[1:]), self.packed.start_dir]
        self.ends = {member.filename: end for member, end in zip(members, ends, strict=False)}
        self.members = {member.filename: member for member in members if not member.is_dir()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.line.stopped.set()
        self.packed.close()

    def extract(self, names: Iterable[str], target: Path) -> None:
        """Write members below `target`, but for those that stand there; members that lie close are one request.

        Raises:
            BadInput: A member is broken, the source stays away, or the disk is too small.
        """
        wanted = set(names)
        members = [
            member for name, member in self.members.items() if name in wanted and not stands(target / name, member)
        ]
        self.file.expect((member.header_offset, self._end(member)) for member in members)
        with sound(self.where):
            extract(self.packed, members, target, self.where, f"parts of {self.name}", self.line.reporter)

    def _end(self, member: zipfile.ZipInfo) -> int:
        return min(self.ends[member.filename], member.header_offset + member.compress_size + LOCAL)


class _Ahead(RangeFile):
    """A file at its source of which a few spans will be read in order: their bytes come ahead, some pieces at once."""

    def __init__(self, source: Source, url: str, line: Line) -> None:
        super().__init__(source, url)
        self.line = line
        self.pieces: Iterator[tuple[int, int]] = iter(())
        self.coming: deque[tuple[int, int, Future[bytes]]] = deque()  # begin, end, content

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Say what will be read: begin and end of every span, ascending; those that lie close are read as one."""
        joined: list[tuple[int, int]] = []
        for begin, end in spans:
            near = joined and begin - joined[-1][1] <= GAP
            begin = joined.pop()[0] if near else begin
            joined.append((begin, end))
        self.pieces = ((at, min(at + PIECE, end)) for begin, end in joined for at in range(begin, end, PIECE))
        self.coming.clear()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes; the bytes read."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._comes():
            begin, end, content = self.coming[0]
            stop = min(end, self.at + len(view) - filled)
            piece = content.result()[self.at - begin : stop - begin]
            view[filled : filled + len(piece)] = piece
            filled, self.at = filled + len(piece), self.at + len(piece)
        return filled + super().readinto(view[filled:])

    def _comes(self) -> bool:
        """Whether the next byte is on its way; sends for as many pieces as may come at once."""
        while self.coming and self.coming[0][1] <= self.at:
            self.coming.popleft()
        while len(self.coming) < LINES and (piece := next(self.pieces, None)):
            if piece[1] > self.at:
                self.coming.append((*piece, Future()))
                Thread(target=self._bring, args=self.coming[-1], daemon=True).start()
        return bool(self.coming) and self.coming[0][0] <= self.at

    def _bring(self, begin: int, end: int, content: "Future[bytes]") -> None:
        chunks = []
        try:
            for chunk in self.source.read(begin, end):
                if self.line.stopped.is_set():
                    raise Stopped
                chunks.append(chunk)
            content.set_result(b"".join(chunks))
        except BaseException as error:
            content.set_exception(error)
