"""What the study knows of the source's files: checked at every fetch, and added after the first."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stcln import storage
from stcln.data.fetch.journal import Journal
from stcln.data.fetch.line import Line
from stcln.data.fetch.sources import Remote, open_source
from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.parameters import change
from stcln.study import Pin, Study
from stcln.workspace import Workspace

MOST = 32  # files; a source of more is known by the digest of data/raw, in dvc.lock and the lineage
WHERE = "params.yaml, field pinned"
REMEDY = "get the file that was pinned, or remove the pin to take this one"


def expected(remote: Remote, pin: Pin) -> Remote:
    """A file with what the study knows of it.

    Raises:
        BadInput: The source says otherwise.
    """
    for field, known, told in (("md5", pin.md5, remote.md5), ("bytes", pin.bytes, remote.size)):
        if known is not None and told is not None and known != told:
            problem = f"{field} {known} for {remote.name}, but the source says {told}"
            raise BadInput(WHERE, problem, "correct it, or remove it to trust the source")
    return replace(remote, size=pin.bytes if remote.size is None else remote.size, md5=pin.md5 or remote.md5)


def check_files(study: Study, files: Mapping[str, Path]) -> None:
    """Compare files on this machine with their pins: bytes, and md5 where it is pinned.

    Raises:
        BadInput: One differs.
    """
    for name, pin in study.pinned.items():
        if name in files:
            _compare(name, pin, files[name].stat().st_size, partial(storage.digest, files[name]))


def check_linked(study: Study, document: Mapping[str, Any], line: Line) -> None:
    """Compare files that are read at their source with their pins; a pinned md5 costs reading that file once.

    Args:
        study: The pins.
        document: What `linked.json` will hold.
        line: Hears of every wait.

    Raises:
        BadInput: One differs, or the source stays away.
    """
    source, files = document["source"], document["files"]

    def md5(name: str) -> str:
        url = source if source.endswith(f"/{name}") and len(files) == 1 else f"{source}/{name}"
        hashed = hashlib.md5()
        for chunk in open_source(Remote(name, url), line).read(0, None):
            hashed.update(chunk)
        return hashed.hexdigest()

    for name, pin in study.pinned.items():
        if name in files:
            _compare(name, pin, files[name]["bytes"], partial(md5, name))


def add(workspace: Workspace, found: Mapping[str, Journal], reporter: Reporter) -> None:
    """Write bytes and md5 of what was downloaded into params.yaml, where they are not yet.

    No stage depends on them, so nothing becomes stale. A params.yaml that cannot be written is told, not an error.
    """
    known = workspace.study.pinned
    new = {
        name: {"bytes": sum(end - begin for begin, end in held.held), "md5": held.md5}
        for name, held in found.items()
        if None in (known.get(name, Pin()).bytes, known.get(name, Pin()).md5)
    }
    if len(found) > MOST and new:
        reporter.note(f"{len(found)} files are not pinned one by one: dvc.lock has the digest of data/raw")
    elif new:
        try:
            change(workspace.root / "params.yaml", "pinned", partial(_merge, new))
            reporter.note("pinned in params.yaml, commit it", _text(new))
        except (OSError, BadInput) as error:
            reporter.note(f"params.yaml could not be changed ({error}): add this to `pinned`", _text(new))


def _merge(new: Mapping[str, Mapping[str, Any]], pinned: Any) -> None:
    for name, pin in new.items():
        pinned[name] = {**(pinned.get(name) or {}), **pin}


def _text(new: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: f"{{bytes: {pin['bytes']}, md5: {pin['md5']}}}" for name, pin in new.items()}


def _compare(name: str, pin: Pin, size: int, md5: Callable[[], str]) -> None:
    if pin.bytes is not None and size != pin.bytes:
        raise BadInput(WHERE, f"{name} has {size} bytes, {pin.bytes} are pinned", REMEDY)
    if pin.md5 is not None and (now := md5()) != pin.md5:
        raise BadInput(WHERE, f"md5 of {name} is {now}, {pin.md5} is pinned", REMEDY)
