"""Unpacks zip and tar archives that may be hostile: nothing is written outside the directory, no link, no bomb."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from stcln.data.fetch.ranges import need
from stcln.errors import BadInput
from stcln.events import Reporter

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RATIO = 200  # times its own size that an archive may grow
SLACK = 1 << 24  # bytes that any archive may hold

Member = tuple[str, int, bool, IO[bytes] | None]  # name, bytes, plain file, content (None: a directory)


def is_archive(name: str) -> bool:
    """Whether a file's name says that it is an archive."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path, reporter: Reporter) -> None:
    """Unpack all members of an archive below `target`.

    Raises:
        BadInput: The archive is broken; a member would leave `target`, is a link or a device, or stands twice; its
            members are absurdly large; or the disk is too small.
    """
    try:
        total = _check(archive, target)
        done = 0
        for name, size, _, content in _members(archive):
            place = target / name
            if content is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("xb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            done += size
            reporter.progress(f"unpack {archive.name}", done, total)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput(archive, f"{error.filename} stands there twice", "get a sound archive") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(archive, f"not a sound archive: {error}", "get it again, or correct dataset.source") from None


def inside(name: str) -> bool:
    """Whether a relative path stays below the directory it is put in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set("\\:\0") & set(name)


def _check(archive: Path, target: Path) -> int:
    """Look at every member before the first is written; return the bytes of all."""
    total = 0
    limit = RATIO * archive.stat().st_size + SLACK
    for name, size, plain, content in _members(archive):
        if content is not None:
            content.close()
        if not inside(name):
            raise BadInput(archive, f"member {name!r} would leave the directory", "do not use this archive")
        if not plain:
            raise BadInput(archive, f"member {name!r} is a link or a device", "pack the files themselves")
        total += size
        if total > limit:
            raise BadInput(archive, f"its members hold more than {RATIO} times its size", "do not use this archive")
    need(total, target)
    return total


def _members(archive: Path) -> Iterator[Member]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                mode = entry.external_attr >> 16
                plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
                content = None if entry.filename.endswith("/") else packed.open(entry)
                yield entry.filename, entry.file_size, plain, content
    else:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                plain = member.isreg() or member.isdir()
                yield member.name, member.size, plain, tar.extractfile(member) if member.isreg() else None
