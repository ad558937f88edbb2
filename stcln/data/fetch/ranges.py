"""Files from a source, whole: several ranges at once, resumed where they broke off, checked. Not what they hold."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stcln.data.fetch import journal as journals
from stcln.data.fetch.crew import Job, work_off
from stcln.data.fetch.journal import Journal
from stcln.data.fetch.line import Changed, Line, Stopped
from stcln.data.fetch.part import Part
from stcln.data.fetch.progress import Progress
from stcln.data.fetch.sources import Remote, Source, open_source
from stcln.errors import BadInput

LINES = 4  # ranges of a file, or small files of a web server, at once
FILES = 16  # small files of an object store at once
SEGMENT = 1 << 23  # bytes of a range at least; a smaller file comes at once
PARTS = 256  # ranges that a large file is cut into: web servers count requests
LARGEST = 1 << 26  # bytes of a range at most
CHANGES = 3  # times a file may change while it is read


@dataclass(frozen=True)
class Place:
    """Where a file gathers below the directory of a fetch.

    Attributes:
        whole: The file, once it is whole and its checksum known.
        part: The same before.
        journal: What is known of it.
    """

    whole: Path
    part: Path
    journal: Path


def place(directory: Path, name: str) -> Place:
    """Where the file `name` gathers."""
    key = hashlib.md5(name.encode()).hexdigest()
    return Place(directory / "files" / name, directory / "parts" / name, directory / "journals" / f"{key}.json")


def download(remotes: Sequence[Remote], directory: Path, line: Line) -> dict[str, Journal]:
    """Bring files into `directory`/files, going on from what an earlier call left there.

    A large file comes in several ranges at once, of small files several at once.

    Args:
        remotes: The files.
        directory: Where they gather; it survives a kill.
        line: Hears of progress and waits.

    Returns:
        Size, version and md5 of each, by name.

    Raises:
        BadInput: The source refuses a file, the line stays broken, the disk is too small, a file keeps changing, or its
            size or checksum is not the one known.
    """
    what = f"download {remotes[0].name}" if len(remotes) == 1 else f"download {len(remotes)} files"
    progress = Progress(line.reporter, what, sum(remote.size or 0 for remote in remotes))
    found: dict[str, Journal] = {}

    def bring(remote: Remote) -> None:
        found[remote.name] = _bring(remote, directory, line, progress)

    small = [remote for remote in remotes if remote.size is not None and remote.size <= SEGMENT]
    web = any(remote.url.startswith("http") for remote in small)
    hands = min(LINES if web else FILES, len(small))
    work_off((partial(bring, remote) for remote in small), hands, line, progress.tell)
    for remote in remotes:
        if remote.name not in found:
            bring(remote)
    progress.tell(last=True)
    return found


def in_hand(remotes: Sequence[Remote], directory: Path) -> int:
    """Bytes of these files that an earlier call left in `directory`."""
    known = [(remote, journals.load(place(directory, remote.name).journal)) for remote in remotes]
    return sum(b - a for remote, found in known if found and found.url == remote.url for a, b in found.held)


def forget(name: str, directory: Path) -> None:
    """Have the next call bring a file anew."""
    at = place(directory, name)
    for path in (at.journal, at.part, at.whole):
        path.unlink(missing_ok=True)


def need(space: int, where: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        BadInput: Fewer than `space` bytes are free.
    """
    where.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(where).free) < space:
        problem = f"{free / 1e9:.2f} GB free, {space / 1e9:.2f} GB needed"
        raise BadInput(where, problem, "free space, or move the workspace to a larger disk")


def _bring(remote: Remote, directory: Path, line: Line, progress: Progress) -> Journal:
    """One file, begun anew when it changes on the way."""
    at = place(directory, remote.name)
    known = journals.load(at.journal)
    if at.whole.exists() and known and known.md5 and _stands(known, remote, line):
        _verify(remote, known, directory)
        progress.have(known.held[0][1] if known.held else 0)
        return known
    at.whole.unlink(missing_ok=True)
    for _ in range(CHANGES):
        try:
            return _fill(open_source(remote, line), remote, directory, line, progress)
        except Changed as change:
            line.reporter.note(f"{remote.name} is begun anew", {"why": change.problem})
    raise BadInput(remote.url, f"it changed {CHANGES} times while it was read", "fetch it when it rests")


def _stands(known: Journal, remote: Remote, line: Line) -> bool:
    """Whether the source still has the file that is here: by its checksum, its listing, or when asked."""
    if known.url != remote.url or remote.md5 is not None:
        return (known.url, known.md5) == (remote.url, remote.md5)
    if known.same(Journal(remote.url, remote.version, remote.size)) and remote.version:
        return True
    source = open_source(remote, line)
    return known.same(Journal(remote.url, source.version, source.size))


def _fill(source: Source, remote: Remote, directory: Path, line: Line, progress: Progress) -> Journal:
    """Fetch what is missing of one version of a file, and move it to its place."""
    at = place(directory, remote.name)
    begun, fresh = journals.load(at.journal), Journal(remote.url, source.version, source.size)
    going_on = begun and begun.same(fresh) and source.ranges and at.part.exists()
    unknown = 0 if remote.size is not None else source.size or 0
    progress.expect(unknown)
    need(unknown, directory)
    with closing(Part(at.part, at.journal, begun if begun and going_on else fresh)) as part:
        progress.have(part.size)
        try:
            _run(list(_jobs(source, part, line, progress)), part, line, progress.tell)
        except BaseException as error:
            with suppress(OSError):  # a full disk is told already
                part.enter()
            if isinstance(error, Changed):
                progress.have(-part.size)
                progress.expect(-unknown)
            raise
        done = part.finish()
    _verify(remote, done, directory)
    at.whole.parent.mkdir(parents=True, exist_ok=True)
    at.part.replace(at.whole)
    return done


def _jobs(source: Source, part: Part, line: Line, progress: Progress) -> Iterator[Job]:
    """The ranges to fetch, from the front."""

    def bring(start: int, end: int | None) -> None:
        for chunk in source.read(start, end):
            if line.stopped.is_set():
                raise Stopped
            part.write(start, chunk)
            start += len(chunk)
            progress.came(len(chunk))

    if source.size is None or not source.ranges:
        yield partial(bring, 0, source.size)
        return
    most = min(max(SEGMENT, source.size // PARTS), LARGEST)
    yield from (partial(bring, *span) for span in journals.missing(part.held, source.size, most))


def _run(jobs: list[Job], part: Part, line: Line, tell: Callable[[], None]) -> None:
    """A file of one short range comes in this thread, another in several."""
    size = part.journal.size
    if size is not None and size <= SEGMENT:
        for job in jobs:
            job()
        return

    def watch() -> bool:
        tell()
        return part.watch()

    work_off(jobs, min(LINES, len(jobs)), line, watch)


def _verify(remote: Remote, done: Journal, directory: Path) -> None:
    """Compare size and checksum; what does not match is deleted, since going on from it would not help."""
    size = sum(end - begin for begin, end in done.held)
    known = remote.size if remote.size is not None else done.size
    if known is not None and size != known:
        problem = f"{size} bytes came, {known} were announced"
    elif remote.md5 is not None and done.md5 != remote.md5:
        problem = f"md5 of {remote.name} is {done.md5}, not {remote.md5}"
    else:
        return
    forget(remote.name, directory)
    raise BadInput(remote.url, problem, "run it again; if it stays, correct `pinned` or ask the source")
