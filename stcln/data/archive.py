"""Where readers find the archive: data/raw, or the address that `data/raw/linked.json` names, read in place.

`fetch` writes that file, `prepare` reads it; how a layout's files are read is the readers' business.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from upath import UPath

from stcln import storage
from stcln.errors import BadInput, NoAnswer, beneath, no_answer, refusals_of_a_server
from stcln.study import PACKED, Dataset
from stcln.workspace import Workspace

LINKED = storage.LINKED
SIMULATED = "SIMULATED.txt"  # stands beside the lists of a simulated archive, wherever that is taken
VERSION = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "created")
"""Where a file system says which version of a file it holds; the first that it knows counts."""
SHOWN = 3
WHERE = "params.yaml, field dataset.source"


def link(dataset: Dataset) -> dict[str, Any]:
    """What `linked.json` holds of a source: `{source, files: {name: {bytes, version}}}`.

    Args:
        dataset: The study's; its source is a directory or one file at an address that can be listed.

    Raises:
        BadInput: The source is on the web, empty or packed, does not answer, or `dataset.files` narrows it.
    """
    source = dataset.source.rstrip("/")
    if source.startswith(("http:", "https:", "zenodo:")) or "://" not in source:
        problem = f"{source} cannot be read in place"
        raise BadInput(WHERE, problem, "set dataset.linked to false, or copy it to a bucket (s3://...)")
    if dataset.files:
        problem = "a linked source is read whole"
        raise BadInput("params.yaml, field dataset.files", problem, "remove it, and name the directory in source")
    files = _files(source)
    if not files:
        raise BadInput(WHERE, f"{source} holds no files", "correct it, or check the bucket's name")
    if packed := [name for name in files if name.lower().endswith(PACKED)]:
        raise BadInput(WHERE, f"{packed[0]} is packed and cannot be read in place", "set dataset.linked to false")
    return {"source": source, "files": files}


def root(workspace: Workspace) -> Path | UPath:
    """The directory that readers start from, `dataset.root` not yet applied. Every file of a linked one is looked up.

    Raises:
        BadInput: There is no archive, or a linked one does not answer or is not what `fetch` saw.
    """
    if not workspace.raw.is_dir():
        raise BadInput(workspace.raw, "no archive here", "run `python -m stcln fetch` first")
    linked = workspace.raw / LINKED
    if not linked.exists():
        return workspace.raw
    held = storage.read_json(linked)
    try:
        source, known = str(held["source"]), dict(held["files"])
    except (KeyError, TypeError, ValueError):
        raise BadInput(linked, "not a list of linked files", "run `python -m stcln fetch` again") from None
    found = _files(source)
    if other := sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name)):
        names = ", ".join(other[:SHOWN]) + (" and others" if len(other) > SHOWN else "")
        problem = f"{len(other)} files are not those that were linked: {names}"
        raise BadInput(source, problem, "run `python -m stcln fetch` again to take them as they are now")
    place = UPath(source)
    return place.parent if list(known) == [place.name] and place.is_file() else place


def simulated(workspace: Workspace) -> bool:
    """Whether the archive was simulated, by this study or before it was taken here."""
    dataset, linked = workspace.study.dataset, workspace.raw / LINKED
    mark = Path(dataset.root) / SIMULATED
    named = linked.exists() and mark.as_posix() in storage.read_json(linked).get("files", {})
    return workspace.study.simulated or named or (workspace.raw / mark).is_file()


def inputs(workspace: Workspace, sources: Sequence[Path | UPath]) -> list[Path]:
    """What stands for a reader's sources in a lineage: themselves, or their parts of `linked.json`."""
    return [path if isinstance(path, Path) else _part(workspace.raw / LINKED, path) for path in sources]


@contextmanager
def answering(at: Path | UPath) -> Iterator[None]:
    """Read from an archive; a tile that seems broken because a linked archive does not answer is not a broken tile.

    Raises:
        NoAnswer: The server refused or was gone, whatever the reader made of it.
        BadInput: What the reader refused, where the archive still answers.
    """
    if isinstance(at, Path):
        yield
        return
    try:
        with refusals_of_a_server(str(at)):
            yield
    except NoAnswer:
        raise
    except BadInput as error:
        if cause := beneath(error):
            raise no_answer(str(at), cause) from error
        with refusals_of_a_server(str(at)):
            at.fs.invalidate_cache()
            next(iter(at.iterdir()), None)
        raise


def _part(linked: Path, path: UPath) -> Path:
    source = UPath(storage.read_json(linked)["source"])
    name = path.path.removeprefix(source.path.rstrip("/")).lstrip("/")
    return storage.linked_part(linked, name or path.name)


def _files(source: str) -> dict[str, dict[str, Any]]:
    """Bytes and version of every file at an address, by its name below it; of a single file by its own name."""
    with refusals_of_a_server(source):
        try:
            system, path = fsspec.core.url_to_fs(source, use_listings_cache=False)
        except ValueError as error:
            raise BadInput(WHERE, f"{source}: {error}", "correct the address") from None
        found = system.find(path, detail=True)
    files = {}
    for key, info in sorted(found.items()):
        if key.endswith("/"):  # a bucket's mark of an empty folder
            continue
        name = key.removeprefix(path).lstrip("/") or path.rsplit("/", 1)[-1]
        version = next((info[field] for field in VERSION if info.get(field)), "")
        files[name] = {"bytes": info.get("size"), "version": str(version).strip('"')}
    return files
