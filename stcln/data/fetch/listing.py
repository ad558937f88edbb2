"""What a source holds: a Zenodo record, one address, names below it, all that fsspec finds there, or a path."""

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from stcln.data.fetch.elsewhere import stamp, system_of
from stcln.data.fetch.line import Line
from stcln.data.fetch.members import inside
from stcln.data.fetch.sources import Remote
from stcln.data.fetch.web import body
from stcln.errors import BadInput, refusals_of_a_server
from stcln.study import Dataset
from stcln.workspace import Workspace

ZENODO = "https://zenodo.org/api/records"
WHERE = "params.yaml, field dataset.source"
FILES = "params.yaml, field dataset.files"


def local(workspace: Workspace) -> Path | None:
    """The directory or file that a source on this machine names, relative to the workspace; None for any other.

    Raises:
        BadInput: It is missing, contains data/raw, or is a file and not the one that `dataset.files` names.
    """
    source = workspace.study.dataset.source
    if not workspace.study.dataset.local:
        return None
    if source.startswith("file:"):
        source = url2pathname(urlsplit(source).path)
    path = (workspace.root / source).resolve()
    if not path.exists():
        raise BadInput(WHERE, f"{path} is missing", "correct it; a relative path starts at the workspace")
    if path.is_file() and (absent := [name for name in workspace.study.dataset.files if name != path.name]):
        raise BadInput(FILES, f"{absent} not among ['{path.name}']", "name what it holds")
    if path == workspace.root.resolve() or workspace.raw.resolve().is_relative_to(path):
        raise BadInput(WHERE, f"{path} contains data/raw itself", "name the archive's own directory")
    return path


def remotes(dataset: Dataset, line: Line) -> list[Remote]:
    """The files of a source that is elsewhere, as `dataset.files` narrows them.

    Raises:
        BadInput: The source makes no sense, is empty or does not answer; a file is not there, or its name would lead
            out of the directory or stands in another's way.
    """
    source = dataset.source
    found = _record(source.removeprefix("zenodo:"), line) if source.startswith("zenodo:") else _addresses(dataset)
    names = [remote.name for remote in found]
    if absent := [name for name in dataset.files if name not in names]:
        raise BadInput(FILES, f"{absent} not among {names} of {source}", "name what it holds")
    found = [remote for remote in found if not dataset.files or remote.name in dataset.files]
    if not found:
        raise BadInput(WHERE, f"{source} holds no files", "correct it")
    names = [remote.name for remote in found]
    if bad := [name for name in names if not inside(name)]:
        raise BadInput(source, f"file name {bad[0]!r} would leave the directory", "do not use this source")
    count = Counter(names)
    above = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if bad := [name for name in names if name in above or count[name] > 1]:
        raise BadInput(source, f"{bad[0]!r} is two files, or a file and a directory", "name files in dataset.files")
    return found


def _record(record: str, line: Line) -> list[Remote]:
    """The files of a Zenodo record, with sizes and checksums."""
    url = f"{ZENODO}/{record}"
    if not record.isdigit():
        raise BadInput(WHERE, f"zenodo:{record} names no record", "write zenodo: and the record's number")
    try:
        files = json.loads(body(url, line))["files"]
        return [
            Remote(file["key"], file["links"]["self"], file["size"], file["checksum"].removeprefix("md5:"))
            for file in files
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(url, f"not a record's description: {error!r}", "check the record's number") from None


def _addresses(dataset: Dataset) -> list[Remote]:
    """One address, or the listed names below it; beyond the web, all files below it."""
    base = dataset.source.rstrip("/")
    if dataset.files:
        return [Remote(name, f"{base}/{quote(name)}") for name in dataset.files]
    name = unquote(urlsplit(dataset.source).path.rsplit("/", 1)[-1])
    if dataset.source.startswith(("http://", "https://")):
        if not name:
            raise BadInput(WHERE, f"{dataset.source} names no file", "name one, or list names in dataset.files")
        return [Remote(name, dataset.source)]
    system, path = system_of(dataset.source)
    root = path.rstrip("/")
    name = root.rsplit("/", 1)[-1]
    with refusals_of_a_server(dataset.source):
        system.invalidate_cache()
        found = system.find(path, detail=True)
    return [
        Remote(
            key.removeprefix(root).lstrip("/") or name,
            system.unstrip_protocol(key),
            info.get("size"),
            version=stamp(info),
        )
        for key, info in sorted(found.items())
        if not key.endswith("/")  # a bucket's mark of an empty folder
    ]
