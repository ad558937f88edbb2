"""Unpacks zip and tar archives into a directory that survives a kill.

A member is written beside the directory and moved into it when it is whole, so what lies there is finished; of a zip it
is recognised by its checksum and not unpacked again. How an archive is brought here is not this module's business.
"""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from stcln.data.fetch.members import CHUNK, NOT_THIS, Bound, broken, inside, put, sound, sweep
from stcln.data.fetch.progress import Progress
from stcln.data.fetch.ranges import need
from stcln.errors import BadInput
from stcln.events import Reporter

__all__ = ["checked", "extract", "inside", "is_archive", "stands", "unpack", "unpacked"]

HEADER = 30  # bytes before a zip member, at least
END_RECORD, LOCATOR_64, END_RECORD_64 = 22, 20, 56  # bytes that end a zip
END = 2 * tarfile.BLOCKSIZE  # zeros that end a tar
TARS: dict[str, Callable[[Any], Any]] = {
    ".tar": lambda raw: raw, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open,
}  # fmt: skip


def is_archive(name: str) -> bool:
    """Whether a file's name says that it is an archive."""
    return name.lower().endswith((".zip", *TARS))


def unpacked(name: str, size: int) -> int:
    """Bytes that a file of the source will need beside itself, as far as known before it is opened: its own again."""
    return size if is_archive(name) else 0


def unpack(archive: Path, target: Path, reporter: Reporter) -> None:
    """Unpack all members of an archive, going on from what an earlier call left; `target` then holds nothing else.

    Args:
        archive: A zip, or a tar, plain or packed. A tar has no checksum a member, so its members are written again.
        target: A directory for this archive alone, missing at first; `<target>.part` beside it is used too. What it
            holds goes where it belongs by `members.merge`.
        reporter: Told how far it is, in bytes.

    Raises:
        BadInput: The archive is broken or encrypted; a member would leave `target`, is a link or a device, stands
            twice, overlaps another, or is not as long as announced; the members are absurdly large; or the disk is too
            small.
    """
    target.mkdir(parents=True, exist_ok=True)
    with sound(str(archive)):
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                members = checked(packed, str(archive), archive.stat().st_size)
                sweep(target, {target / member.filename for member in members})
                extract(packed, members, target, str(archive), f"unpack {archive.name}", reporter)
        else:
            sweep(target, _untar(archive, target, reporter))


def checked(packed: zipfile.ZipFile, where: str, size: int) -> list[zipfile.ZipInfo]:
    """Look at every member of a zip before the first is written.

    Args:
        packed: The open archive.
        where: Its name, for messages.
        size: Its bytes.

    Returns:
        Its members, directories among them, in the order in which they lie in the archive.

    Raises:
        BadInput: A member is refused, see `unpack`.
    """
    members = sorted(packed.infolist(), key=lambda member: member.header_offset)
    bound = Bound(where, size)
    ends = [*(member.header_offset for member in members[1:]), packed.start_dir]
    for member, end in zip(members, ends, strict=False):
        plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
        bound.add(member.filename, member.file_size, plain, member.is_dir())
        if member.flag_bits & 1:
            raise BadInput(where, f"member {member.filename!r} is encrypted", "get an archive without password")
        if member.header_offset < 0 or (member.is_dir() and member.file_size):
            raise broken(where, f"member {member.filename!r} lies before its front, or is a directory of bytes")
        if member.header_offset + HEADER + member.compress_size > end:
            raise BadInput(where, f"member {member.filename!r} overlaps what follows it", NOT_THIS)
    if (announced := _announced(packed, size)) != len(members):
        raise broken(where, f"its directory lists {len(members)} members, {announced} were announced")
    return members


def extract(
    packed: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], target: Path, where: str, what: str, reporter: Reporter
) -> None:
    """Write members of a zip below `target`; one that stands there already, by size and CRC, is left.

    Args:
        packed: The open archive.
        members: Some of what `checked` gave.
        target: Where to.
        where: The archive's name, for messages.
        what: What is done, for progress.
        reporter: Told of the bytes that are written.

    Raises:
        BadInput: A member is not as long as announced, or the disk is too small.
        Exception: What `sound` tells, where a member is broken.
    """
    progress = Progress(reporter, what, sum(member.file_size for member in members))
    need(sum(member.file_size for member in members if _size(target / member.filename) != member.file_size), target)
    for member in members:
        place = target / member.filename
        if member.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif stands(place, member):
            progress.have(member.file_size)
        else:
            with packed.open(member) as content:
                put(content, member.filename, member.file_size, target, where)
            progress.came(member.file_size)
        progress.tell()
    progress.tell(last=True)


def _announced(packed: zipfile.ZipFile, size: int) -> int:
    """How many members a zip ends by announcing; `zipfile` does not compare it with those it finds."""
    file, end = cast(IO[bytes], packed.fp), size - END_RECORD - len(packed.comment)
    file.seek(end)
    count: int = struct.unpack_from("<H", file.read(END_RECORD), 10)[0]
    if count >= zipfile.ZIP_FILECOUNT_LIMIT:
        file.seek(end - LOCATOR_64 - END_RECORD_64)
        if (record := file.read(END_RECORD_64)).startswith(b"PK\6\6"):
            count = struct.unpack_from("<Q", record, 32)[0]
    return count


class _Tail:
    """A stream that remembers how it ended and refuses to grow without end."""

    def __init__(self, stream: IO[bytes], bound: Bound) -> None:
        self.stream, self.bound, self.total, self.tail = stream, bound, 0, b""

    def read(self, size: int) -> bytes:
        """The next bytes."""
        found = self.stream.read(size)
        self.total += len(found)
        self.bound.within(self.total)
        self.tail = (self.tail + found)[-END:]
        return found


def _untar(archive: Path, target: Path, reporter: Reporter) -> set[Path]:
    """Write every member of a tar as it streams by; gives the places of the files."""
    where, size = str(archive), archive.stat().st_size
    suffix = next(suffix for suffix in TARS if archive.name.lower().endswith(suffix))
    bound, progress = Bound(where, size), Progress(reporter, f"unpack {archive.name}", size)
    with archive.open("rb") as raw, TARS[suffix](raw) as stream:
        tail = _Tail(stream, bound)
        with tarfile.open(fileobj=cast(IO[bytes], tail), mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                bound.add(member.name, member.size, member.isreg() or member.isdir(), member.isdir())
                if content := tar.extractfile(member) if member.isreg() else None:
                    need(member.size, target)
                    put(content, member.name, member.size, target, where)
                else:
                    (target / member.name).mkdir(parents=True, exist_ok=True)
                progress.came(raw.tell() - progress.done)
                progress.tell()
        while tail.read(CHUNK):  # the checksum of what is packed stands at its end
            pass
        progress.came(size - progress.done)
    progress.tell(last=True)
    if any(tail.tail) or len(tail.tail) < END:
        raise broken(where, "it ends too early")
    return {target / path for path in bound.files}


def stands(place: Path, member: zipfile.ZipInfo) -> bool:
    """Whether a member has been written before: by its size and CRC, since a file can be hollow after a power cut."""
    if _size(place) != member.file_size:
        return False
    crc = 0
    with place.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == member.CRC


def _size(place: Path) -> int | None:
    return place.stat().st_size if place.is_file() else None
