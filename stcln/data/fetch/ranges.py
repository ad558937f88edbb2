"""One file from a server, whole: resumed where it broke off, tried again, checked. What it holds belongs elsewhere."""

import errno
import http.client
import io
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from stcln import storage
from stcln.errors import BadInput
from stcln.events import Reporter

TRIES = 8
WAIT = 1.0  # seconds before the second try; doubled at each
LONGEST = 60.0  # seconds
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Remote:
    """A file at a source.

    Attributes:
        name: Path below the archive's directory, posix.
        url: Where it is.
        size: Bytes, if the source tells.
        md5: Its checksum, if known.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None


class _LineError(Exception):
    """The line broke: worth another try, after `wait` seconds if the server asked for it."""

    def __init__(self, why: object, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(str(why))


def download(remote: Remote, directory: Path, reporter: Reporter) -> Path:
    """Bring a file into `directory`, going on from what an earlier call left there.

    Bytes gather in `<name>.part`; `<name>.origin` says which version of the file they are of, so that a file that
    changed at the source is begun anew. A file that is there whole is not asked for again.

    Raises:
        BadInput: The source refuses it, the line keeps breaking, the disk is too small, or the checksum does not match.
    """
    target = directory / remote.name
    part, origin = target.with_name(target.name + ".part"), target.with_name(target.name + ".origin")
    if target.exists() and _known(remote, origin) is not None:
        _verify(remote, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = size = 0  # tries in a row that brought no byte
    while True:
        try:
            _append(remote, part, origin, reporter)
            break
        except _LineError as broken:
            before, size = size, part.stat().st_size if part.exists() else 0
            failed = 0 if size > before else failed + 1
            if failed == TRIES:
                problem = f"{TRIES} tries brought nothing, at last: {broken}"
                raise BadInput(remote.url, problem, "run it again: it goes on where it stopped") from None
            reporter.note(f"download of {remote.name} broke, trying again", {"why": str(broken)})
            time.sleep(min(max(WAIT * 2**failed, broken.wait), LONGEST))
    _verify(remote, part)
    part.rename(target)
    return target


def need(space: int, where: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        BadInput: Fewer than `space` bytes are free.
    """
    where.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(where).free) < space:
        problem = f"{free / 1e9:.2f} GB free, {space / 1e9:.2f} GB needed"
        raise BadInput(where, problem, "free space, or move the workspace to a larger disk")


@contextmanager
def ask(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Iterator[Any]:
    """Open an HTTP address.

    Raises:
        BadInput: The server refuses.
        _LineError: It may answer later.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "stcln", **(headers or {})}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing after the bytes in hand: the caller compares with the file's size
                yield error
                return
            if error.code in RETRIED:
                after = error.headers.get("Retry-After", "")
                raise _LineError(f"HTTP {error.code}", float(after) if after.isdigit() else 0.0) from None
            raise BadInput(
                url, f"HTTP {error.code} {error.reason}", "correct dataset.source or dataset.files"
            ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _LineError(error) from None
    except ValueError as error:
        raise BadInput(url, str(error), "correct dataset.source") from None
    with response:
        yield response


def patiently(url: str) -> bytes:
    """The body of an address, tried again while the server is not ready.

    Raises:
        BadInput: It refuses, or stays away.
    """
    wait = WAIT
    for left in reversed(range(TRIES)):
        try:
            with ask(url) as response:
                return bytes(response.read())
        except (_LineError, OSError, http.client.HTTPException) as error:
            if not left:
                raise BadInput(url, f"no answer: {error}", "check the connection and run it again") from None
            time.sleep(min(max(wait, getattr(error, "wait", 0.0)), LONGEST))
            wait *= 2
    raise AssertionError


@dataclass(frozen=True)
class _Source:
    """An open file at the source: bytes from `begin` on, of `total` (if told), of a version (if told)."""

    stream: Any
    begin: int
    total: int | None
    version: str | None


def _append(remote: Remote, part: Path, origin: Path, reporter: Reporter) -> None:
    """Fetch what `part` still lacks."""
    known = _known(remote, origin)
    start = part.stat().st_size if known is not None and part.exists() else 0
    if start and start == remote.size:
        return
    with _open(remote, start, known or "") as source:
        if source.begin and known and source.version and source.version != known:
            part.unlink()
            raise _LineError("the file changed at the source")
        need((source.total or 0) - source.begin, part.parent)
        with part.open("ab" if source.begin else "wb") as out:
            storage.write_json(origin, {"url": remote.url, "version": source.version or ""})
            _copy(source, out, remote.name, reporter)
    if source.total is not None and part.stat().st_size != source.total:
        raise _LineError(f"{part.stat().st_size} of {source.total} bytes came")


def _known(remote: Remote, origin: Path) -> str | None:
    """Version of the bytes in hand ("" if the source does not tell); None if they are of another address."""
    found = storage.read_json(origin) if origin.exists() else {}
    return str(found["version"]) if found.get("url") == remote.url else None


def _open(remote: Remote, start: int, version: str) -> AbstractContextManager[_Source]:
    web = remote.url.split(":", 1)[0] in ("http", "https")
    return _open_web(remote, start, version) if web else _open_other(remote, start, version)


@contextmanager
def _open_web(remote: Remote, start: int, version: str) -> Iterator[_Source]:
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and version and not version.startswith("W/"):
        headers["If-Range"] = version
    with ask(remote.url, headers) as response:
        given = response.headers
        now = given.get("ETag") or given.get("Last-Modified")
        if response.status in (206, 416):
            span, _, whole = given.get("Content-Range", "").removeprefix("bytes ").partition("/")
            total = int(whole) if whole.isdigit() else remote.size
            begin = start if span == "*" else int(span.partition("-")[0] or -1)
            if begin != start or (response.status == 416 and start != total):
                raise _LineError(f"the server answered a range from {start} with {given.get('Content-Range')}")
            yield _Source(io.BytesIO() if response.status == 416 else response, begin, total, now)
        else:
            length = given.get("Content-Length", "")
            yield _Source(response, 0, int(length) if length.isdigit() else remote.size, now)


@contextmanager
def _open_other(remote: Remote, start: int, version: str) -> Iterator[_Source]:
    """What fsspec knows: s3, gs, file, memory."""
    try:
        system, path = fsspec.core.url_to_fs(remote.url)
        found = system.info(path)
        now = str(found.get("ETag") or found.get("mtime") or found.get("created") or "")
        begin = start if now == version else 0
        with system.open(path, "rb") as stream:
            stream.seek(begin)
            yield _Source(stream, begin, found.get("size"), now)
    except (FileNotFoundError, PermissionError) as error:
        raise BadInput(remote.url, f"{error}", "correct dataset.source or dataset.files, or get access") from None


def _copy(source: _Source, out: IO[bytes], name: str, reporter: Reporter) -> None:
    done, told = source.begin, -1
    try:
        while chunk := source.stream.read(CHUNK):
            out.write(chunk)
            done += len(chunk)
            if (percent := 100 * done // (source.total or done)) != told:
                told = percent
                reporter.progress(f"download {name}", done, source.total or done)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(out.name, "the disk is full", "free space and run it again") from None
        raise _LineError(error) from None


def _verify(remote: Remote, part: Path) -> None:
    """Compare size and checksum; what does not match is deleted, since going on from it would not help."""
    if remote.size is not None and (size := part.stat().st_size) != remote.size:
        part.unlink()
        raise BadInput(remote.url, f"{size} bytes came, {remote.size} were announced", "run it again")
    if remote.md5 is not None and (md5 := storage.digest(part)) != remote.md5:
        part.unlink()
        problem = f"md5 of {remote.name} is {md5}, not {remote.md5}"
        raise BadInput(remote.url, problem, "run it again; if it stays, correct `pinned` or ask the source")
