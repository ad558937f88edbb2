"""Brings the archive into data/raw: simulated, linked from a directory, or downloaded; whole or not at all.

What comes in pieces gathers in .stcln/resume/fetch, so that a killed run goes on where it was. How one file is brought
is `download`'s business, archives are `unpack`'s, and what the files mean is the readers'.
"""

import json
import shutil
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import fsspec

from stcln import storage
from stcln.data.fetch.archives import inside, is_archive, unpack
from stcln.data.fetch.members import merge
from stcln.data.fetch.ranges import Remote, download, need, patiently
from stcln.data.simulate import simulate
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.stages import write_lineage
from stcln.study import Pin
from stcln.workspace import Workspace

ZENODO = "https://zenodo.org/api/records"
WHERE = "params.yaml, field dataset.source"


def fetch(workspace: Workspace, reporter: Reporter) -> dict[str, Value]:
    """Make data/raw from `dataset.source`.

    Returns:
        source, files, bytes.

    Raises:
        BadInput: The source is missing, empty, refused, broken or unsafe; a checksum or the free space does not fit.
    """
    study = workspace.study
    source = study.dataset.source
    remotes = [] if study.simulated else _remotes(workspace, source)
    brought = [(remote, download(remote, workspace.resume("fetch"), reporter)) for remote in remotes]
    workspace.raw.parent.mkdir(parents=True, exist_ok=True)
    with storage.whole_directory(workspace.raw) as part:
        if study.simulated:
            simulate(part, study, study.cells.season, reporter)
        elif brought:
            for remote, path in brought:
                _place(remote, path, part, reporter)
        else:
            _link(_directory(workspace, source), part, workspace)
        files = [path for path in part.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        write_lineage(part, workspace, "fetch")
    shutil.rmtree(workspace.resume("fetch"), ignore_errors=True)
    return {"source": source, "files": len(files), "bytes": size}


def _remotes(workspace: Workspace, source: str) -> list[Remote]:
    """The files to download; none for a directory, which is linked."""
    dataset = workspace.study.dataset
    if source.startswith("zenodo:"):
        remotes = _record(source.removeprefix("zenodo:"))
    elif "://" in source:
        remotes = _addresses(source, dataset.files)
    elif (path := workspace.root / source).is_file():
        remotes = [Remote(path.name, path.resolve().as_uri(), path.stat().st_size)]
    else:
        return []
    if dataset.files:
        held = [remote.name for remote in remotes]
        if absent := [name for name in dataset.files if name not in held]:
            raise BadInput(
                "params.yaml, field dataset.files", f"{absent} not among {held} of {source}", "name what it holds"
            )
        remotes = [remote for remote in remotes if remote.name in dataset.files]
    if bad := [remote.name for remote in remotes if not inside(remote.name)]:
        raise BadInput(source, f"file name {bad[0]!r} would leave the directory", "do not use this source")
    if not remotes:
        raise BadInput(WHERE, f"{source} holds no files", "correct it")
    waiting = sum(remote.size or 0 for remote in remotes if not (workspace.resume("fetch") / remote.name).exists())
    begun = sum(path.stat().st_size for path in workspace.resume("fetch").rglob("*.part"))
    need(waiting - begun, workspace.root)
    return [_with_md5(remote, workspace.study.pinned.get(remote.name, Pin()).md5) for remote in remotes]


def _record(record: str) -> list[Remote]:
    """The files of a Zenodo record, with sizes and checksums."""
    url = f"{ZENODO}/{record}"
    if not record.isdigit():
        raise BadInput(WHERE, f"zenodo:{record} names no record", "write zenodo: and the record's number")
    try:
        files = json.loads(patiently(url))["files"]
        return [
            Remote(file["key"], file["links"]["self"], file["size"], file["checksum"].removeprefix("md5:"))
            for file in files
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(url, f"not a record's description: {error!r}", "check the record's number") from None


def _addresses(source: str, files: tuple[str, ...]) -> list[Remote]:
    """One address, or the listed names below it; beyond the web, all files below it."""
    base = source.rstrip("/")
    if files:
        return [Remote(name, f"{base}/{quote(name)}") for name in files]
    name = unquote(urlsplit(base).path.rsplit("/", 1)[-1])
    if source.startswith(("http://", "https://")):
        if not name:
            raise BadInput(WHERE, f"{source} names no file", "name one, or list names in dataset.files")
        return [Remote(name, source)]
    try:
        system, path = fsspec.core.url_to_fs(source)
    except (ImportError, ValueError) as error:
        raise BadInput(WHERE, f"{source}: {error}", "install what the address needs, or correct it") from None
    found = system.find(path, detail=True)
    root = path.rstrip("/")
    return [
        Remote(key.removeprefix(root).lstrip("/") or name, system.unstrip_protocol(key), info.get("size"))
        for key, info in sorted(found.items())
    ]


def _with_md5(remote: Remote, md5: str | None) -> Remote:
    if md5 and remote.md5 and md5 != remote.md5:
        problem = f"{md5} for {remote.name}, but the source says {remote.md5}"
        raise BadInput("params.yaml, field pinned", problem, "correct it, or remove it to trust the source")
    return Remote(remote.name, remote.url, remote.size, md5 or remote.md5)


def _place(remote: Remote, path: Path, part: Path, reporter: Reporter) -> None:
    """Unpack an archive, copy anything else; the download stays until all is in place."""
    if is_archive(path.name):
        members = path.with_name(path.name + ".members")
        unpack(path, members, reporter)
        merge(members, part, str(path))
    else:
        need(path.stat().st_size, part)
        place = part / remote.name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, place)


def _directory(workspace: Workspace, source: str) -> Path:
    """The directory that a source names, relative to the workspace; `files` are the names to take of it."""
    path = (workspace.root / source).resolve()
    if not path.is_dir():
        raise BadInput(WHERE, f"{path} is missing", "correct it; a relative path starts at the workspace")
    if path == workspace.root.resolve() or workspace.raw.resolve().is_relative_to(path):
        raise BadInput(WHERE, f"{path} contains data/raw itself", "name the archive's own directory")
    return path


def _link(source: Path, part: Path, workspace: Workspace) -> None:
    """Link every file of a directory, so that big data are not copied; DVC follows links."""
    wanted = workspace.study.dataset.files
    files = sorted(path for path in source.rglob("*") if path.is_file())
    names = {path.relative_to(source).as_posix(): path for path in files}
    if absent := [name for name in wanted if name not in names]:
        raise BadInput("params.yaml, field dataset.files", f"{absent} not in {source}", "name what it holds")
    if not names:
        raise BadInput(WHERE, f"{source} holds no files", "name the directory of the archive")
    for name in wanted or names:
        place = part / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(names[name])
