"""Files and directories written whole or not at all, and digests equal to DVC's.

A digest here is the md5 that DVC records for the same path: a lineage entry can be looked up in dvc.lock and the cache.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

CHUNK = 1 << 20
UNFINISHED = (".*.part", ".*.old")  # names of what a step is writing or a killed one left; .dvcignore has them too


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; it takes `target`'s place when the block ends without an error."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    for suffix in ("part", "old"):
        for left in target.parent.glob(f".{target.name}.*.{suffix}"):  # of a killed run
            shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if target.exists():
            old = part.with_suffix(".old")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old)
        else:
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON, whole or not at all: the same value gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
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


def digest(path: Path, known: dict[Path, str] | None = None) -> str:
    """The md5 of a file, or of a directory's sorted listing with the suffix `.dir`, exactly as DVC 3 computes them.

    What is `UNFINISHED` in a directory does not count.

    Args:
        path: What to hash.
        known: Files hashed before; filled, so that several calls hash a file once.
    """
    known = {} if known is None else known
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _unfinished(p.relative_to(path)))
        listing = sorted(
            ({"md5": digest(p, known), "relpath": p.relative_to(path).as_posix()} for p in files),
            key=lambda e: e["relpath"],
        )
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    if path not in known:
        md5 = hashlib.md5()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                md5.update(chunk)
        known[path] = md5.hexdigest()
    return known[path]


def _unfinished(path: Path) -> bool:
    return any(fnmatchcase(part, pattern) for part in path.parts for pattern in UNFINISHED)
