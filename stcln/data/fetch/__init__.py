"""Brings the archive into data/raw: simulated, linked from where it lies, or downloaded; whole or not at all.

What comes in pieces gathers in .stcln/resume, so that a killed run goes on where it was: a trial's apart from what a
full fetch has in hand. How files are brought is `ranges`' business, archives are `archives`', trials are `trials`', and
what the files mean is the readers'.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stcln import storage
from stcln.data import archive
from stcln.data.fetch import listing, pins, trials
from stcln.data.fetch.archives import is_archive, unpack, unpacked
from stcln.data.fetch.line import Line
from stcln.data.fetch.members import Unsound, merge
from stcln.data.fetch.ranges import download, forget, in_hand, need
from stcln.data.fetch.sources import Remote
from stcln.data.simulate import simulate
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.stages import write_lineage
from stcln.study import Pin
from stcln.workspace import Workspace

TRIAL = "fetch-trial"  # where a trial gathers, so that a full fetch which was broken off keeps what it has
Fill = Callable[[Path], None]  # puts all that was gathered into a directory


def fetch(workspace: Workspace, reporter: Reporter) -> dict[str, Value]:
    """Make data/raw from `dataset.source`.

    Returns:
        source, files, bytes.

    Raises:
        BadInput: The source is missing, empty, refused, broken or unsafe; a checksum or the free space does not fit.
    """
    fill = _gather(workspace, Line(reporter))
    workspace.raw.parent.mkdir(parents=True, exist_ok=True)
    with storage.whole_directory(workspace.raw) as part:
        fill(part)
        files = [path for path in part.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        write_lineage(part, workspace, "fetch")
    for state in {_state(workspace), workspace.resume(TRIAL)}:  # after a full fetch no trial goes on
        shutil.rmtree(state, ignore_errors=True)
    return {"source": workspace.study.dataset.source, "files": len(files), "bytes": size}


def _state(workspace: Workspace) -> Path:
    """Where what comes in pieces gathers."""
    return workspace.resume(TRIAL if workspace.study.dataset.trial else "fetch")


def _gather(workspace: Workspace, line: Line) -> Fill:
    """Bring what the source has near, so that only moving it in place is left."""
    study, here = workspace.study, listing.local(workspace)
    if study.simulated:
        return lambda part: simulate(part, study, study.cells.season, line.reporter)
    if here and (here.is_dir() or not is_archive(here.name)):
        return _linked(workspace, here)
    if study.dataset.linked and not here:
        document = archive.link(study.dataset)
        pins.check_linked(study, document, line)
        return lambda part: storage.write_json(part / archive.LINKED, document)
    if here and not study.dataset.trial:
        return _unpacked(workspace, here, line)
    return _brought(workspace, [_remote(here)] if here else listing.remotes(study.dataset, line), line)


def _linked(workspace: Workspace, here: Path) -> Fill:
    """Links to every file that is wanted of a directory, or to one file: big data are not copied."""
    study = workspace.study
    top = here if here.is_dir() else here.parent
    names = {path.relative_to(top).as_posix(): path for path in (_files(here) if here.is_dir() else [here])}
    if absent := [name for name in study.dataset.files if name not in names]:
        raise BadInput(listing.FILES, f"{absent} not in {here}", "name what it holds")
    if not names:
        raise BadInput(listing.WHERE, f"{here} holds no files", "name the directory of the archive")
    if packed := [name for name in study.dataset.files if is_archive(name)]:
        raise BadInput(listing.FILES, f"{here / packed[0]} is packed", "name it in dataset.source")
    wanted = list(study.dataset.files or names)
    if study.dataset.trial:
        wanted = trials.choose(study, wanted, lambda name: names[name].read_bytes())
    pins.check_files(study, {name: names[name] for name in wanted})

    def fill(part: Path) -> None:
        for name in wanted:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).symlink_to(names[name])

    return fill


def _files(top: Path) -> list[Path]:
    """All files below a directory, in order; its folders may be links, and one that leads back is passed over."""
    found: list[Path] = []
    for folder, below, names in os.walk(top, followlinks=True):
        here = Path(folder)
        above = [parent.resolve() for parent in here.parents if parent.is_relative_to(top)]
        if here.resolve() in above:
            below.clear()
        else:
            found += [path for path in map(here.joinpath, names) if path.is_file()]
    return sorted(found)


def _unpacked(workspace: Workspace, here: Path, line: Line) -> Fill:
    """The members of an archive on this machine, which is not copied."""
    pins.check_files(workspace.study, {here.name: here})
    target = _state(workspace) / "unpacked" / here.name
    unpack(here, target, line.reporter)
    return lambda part: merge(target, part, str(here))


def _remote(here: Path) -> Remote:
    return Remote(here.name, here.as_uri(), here.stat().st_size)


def _brought(workspace: Workspace, remotes: list[Remote], line: Line) -> Fill:
    """Downloads, archives among them unpacked."""
    study, state = workspace.study, _state(workspace)
    remotes = [pins.expected(remote, study.pinned.get(remote.name, Pin())) for remote in remotes]
    trial = state / "trial"
    if study.dataset.trial:
        remotes = trials.bring(study, remotes, trial, line)
    waiting = sum((remote.size or 0) + unpacked(remote.name, remote.size or 0) for remote in remotes)
    need(waiting - in_hand(remotes, state) - _bytes(state / "unpacked"), state)
    found = download(remotes, state, line) if remotes else {}
    members = {remote.name: _members(remote, state, line) for remote in remotes if is_archive(remote.name)}
    if not study.dataset.trial:
        pins.add(workspace, found, line.reporter)
    plain = [name for name in found if name not in members]

    def fill(part: Path) -> None:
        if trial.is_dir() and study.dataset.trial:
            merge(trial, part, study.dataset.source)
        for name, target in members.items():
            merge(target, part, name)
        for name in plain:
            _put(state / "files" / name, part / name)

    return fill


def _members(remote: Remote, state: Path, line: Line) -> Path:
    """The directory of a downloaded archive's members. If it came broken and no checksum tells so, it must come again.

    Raises:
        BadInput: See `unpack`.
    """
    target = state / "unpacked" / hashlib.md5(remote.name.encode()).hexdigest()
    try:
        unpack(state / "files" / remote.name, target, line.reporter)
    except Unsound:
        if not remote.md5:
            forget(remote.name, state)
        raise
    return target


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _put(path: Path, place: Path) -> None:
    """Have a file at a second place too: what was downloaded stays until all is in place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except FileExistsError:
        raise BadInput(
            path.name, "an archive of the source holds the same name", "name files in dataset.files"
        ) from None
    except OSError:
        shutil.copyfile(path, place)
