"""What any member of an archive must be, and how it is written: whole, below its directory, and as long as announced.

An archive may be hostile: nothing is written outside, no link, no device, no bomb. Formats are `archives`' business.
"""

import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from stcln.errors import BadInput

RATIO = 200  # times its own size that an archive may grow
SLACK = 1 << 24  # bytes that any archive may hold
CHUNK = 1 << 20
NOT_THIS = "do not use this archive"


def inside(name: str) -> bool:
    """Whether a relative path stays below the directory it is put in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set("\\:\0") & set(name)


class Bound:
    """What an archive may hold: safe names, each once, plain files, not absurdly many bytes.

    Args:
        where: The archive, for messages.
        size: Its bytes.
    """

    def __init__(self, where: str, size: int) -> None:
        self.where, self.limit, self.total = where, RATIO * size + SLACK, 0
        self.files: set[PurePosixPath] = set()
        self.directories: set[PurePosixPath] = set()

    def add(self, name: str, size: int, plain: bool, directory: bool) -> None:
        """Count a member in.

        Raises:
            BadInput: It is refused.
        """
        if not inside(name):
            raise BadInput(self.where, f"member {name!r} would leave the directory", NOT_THIS)
        if not plain:
            raise BadInput(self.where, f"member {name!r} is a link or a device", "pack the files themselves")
        path = PurePosixPath(name)
        if path in self.files or (path in self.directories and not directory) or self.files & set(path.parents):
            raise BadInput(self.where, f"member {name!r} stands there twice", "get a sound archive")
        (self.directories if directory else self.files).add(path)
        self.directories.update(path.parents)
        self.total += size
        self.within(self.total)

    def within(self, total: int) -> None:
        """Refuse more bytes than such an archive can hold in earnest.

        Raises:
            BadInput: There are more.
        """
        if total > self.limit:
            raise BadInput(self.where, f"its members hold more than {RATIO} times its size", NOT_THIS)


@contextmanager
def sound(where: str) -> Iterator[None]:
    """Tell whatever reading a broken archive raises as bad input.

    Raises:
        BadInput: In place of it.
    """
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk; without a number, of what unpacks
            raise
        raise broken(where, error) from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error) as error:
        raise broken(where, error) from None
    except (EOFError, ValueError, ArithmeticError, LookupError, NotImplementedError, RuntimeError) as error:
        raise broken(where, error) from None


class Unsound(BadInput):
    """An archive's bytes are not those that were packed: getting it again may help."""


def broken(where: str, why: object) -> Unsound:
    """That an archive is not sound."""
    return Unsound(where, f"not a sound archive: {why}", "get it again, or correct dataset.source")


def put(content: IO[bytes], name: str, size: int, target: Path, where: str) -> None:
    """Write a member to `<target>.part` and move it to its place below `target`.

    Raises:
        BadInput: It does not hold `size` bytes.
    """
    part, place = target.with_name(target.name + ".part"), target / name
    try:
        with part.open("wb") as out:
            shutil.copyfileobj(content, out, CHUNK)
            if out.tell() != size:
                raise broken(where, f"member {name!r} holds {out.tell()} bytes, {size} were announced")
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def sweep(target: Path, kept: set[Path]) -> None:
    """Remove the files that are no members: left by a run that was killed, or of an earlier version of the archive."""
    target.with_name(target.name + ".part").unlink(missing_ok=True)
    for path in target.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


def merge(unpacked: Path, target: Path, where: str) -> None:
    """Put what was unpacked into `target` too, as hard links where the disk knows them; `unpacked` stays whole.

    Raises:
        BadInput: A file stands there already: another file of the source holds it too.
    """
    try:
        shutil.copytree(unpacked, target, copy_function=_link, dirs_exist_ok=True)
    except (FileExistsError, NotADirectoryError, shutil.Error) as error:
        problem = f"another file of the source holds the same name: {error}"
        raise BadInput(where, problem, "name one of them in dataset.files") from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
