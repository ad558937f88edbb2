"""Files and directories written whole or not at all, and digests equal to DVC's.

A digest here is the md5 that DVC records for the same path: a lineage entry can be looked up in dvc.lock and the cache.
What is read where it lies has no file here; `linked.json#data18` stands for it, a part of the list of such files.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stcln.cores import cores
from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

CHUNK = 1 << 20
UNFINISHED = (".*.part", ".*.old")  # names of what a step is writing or a killed one left; .dvcignore has them too
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LINKED = "linked.json"  # {source, files: {name: {bytes, version}}}


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; it takes `target`'s place when the block ends without an error."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    for suffix in ("part", "old"):
        for left in target.parent.glob(f".{target.name}.*.{suffix}"):  # of a killed run
            shutil.rmtree(left, ignore_errors=True)
    try:
        part.mkdir(parents=True)  # in here: a signal may come at once
        yield part
        if target.exists():
            old = part.with_suffix(".old")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old)
        else:
            part.rename(target)
    except OSError as error:
        if error.errno in NO_ROOM and not error.filename:  # writing, unlike opening, does not say where
            error.filename = str(target)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def synchronise(paths: Iterable[Path]) -> None:
    """Make the content of files, and the names in directories, outlast a power cut."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # as file systems say that cannot synchronise names
                error.filename = str(path)
                raise
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON, whole or not at all: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def read_json(path: "Path | UPath") -> Any:
    """Read a JSON file.

    Raises:
        BadInput: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", "run the step that writes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(path, f"not JSON: {error}", "restore the file, or run the step that writes it again") from None


def linked_part(files: Path, name: str) -> Path:
    """The path that stands for a file or directory among those that `files`, a `linked.json`, lists."""
    return files.with_name(f"{files.name}#{name}")


def file_of(path: Path) -> Path:
    """The file that a path is found in: the list, for a part of one."""
    return _list_and_name(path)[0]


def exists(path: Path) -> bool:
    """Whether there is something to hash."""
    held, name = _list_and_name(path)
    return held.exists() and bool(not name or _entries(held, name))


def digest(path: Path, known: dict[Path, str] | None = None) -> str:
    """The md5 of a file, or of a directory's sorted listing with the suffix `.dir`, exactly as DVC 3 computes them.

    What is `UNFINISHED` in a directory does not count. Of a `linked_part`: the md5 of its entries.

    Args:
        path: What to hash.
        known: Files hashed before; filled, so that several calls hash a file once.
    """
    known = {} if known is None else known
    held, name = _list_and_name(path)
    if name:
        return hashlib.md5(json.dumps(_entries(held, name), sort_keys=True).encode()).hexdigest()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _unfinished(p.relative_to(path)))
        with ThreadPoolExecutor(cores()) as threads:  # one takes a minute for the 29 GB of PASTIS
            found = zip(files, threads.map(lambda file: digest(file, known), files), strict=True)
            entries = [{"md5": md5, "relpath": file.relative_to(path).as_posix()} for file, md5 in found]
        listing = sorted(entries, key=lambda entry: entry["relpath"])
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    if path not in known:
        md5 = hashlib.md5()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                md5.update(chunk)
        known[path] = md5.hexdigest()
    return known[path]


def _list_and_name(path: Path) -> tuple[Path, str]:
    """The list and the name that a `linked_part` is made of; any other path and nothing."""
    head, found, name = str(path).rpartition(f"/{LINKED}#")
    return (Path(head, LINKED), name) if found else (path, "")


def _entries(files: Path, name: str) -> dict[str, Any]:
    held = read_json(files)["files"]
    return {key: entry for key, entry in held.items() if key == name or key.startswith(f"{name}/")}


def _unfinished(path: Path) -> bool:
    return any(fnmatchcase(part, pattern) for part in path.parts for pattern in UNFINISHED)
