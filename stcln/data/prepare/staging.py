"""Tiles that are ready for the store, each in a file of its own until the season is complete.

A run that was broken goes on with them. They count only for the same archive, parameters, code and libraries: these
make the name of the directory.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import google_crc32c

from stcln.data.prepare.count import Count
from stcln.data.store.packed import Packed
from stcln.errors import BadInput
from stcln.storage import digest, file_of
from stcln.workspace import code_digest

LENGTH_BYTES, CRC_BYTES = 8, 4  # in front of a ready tile's JSON, and behind all of it
LIBRARIES = ("numcodecs", "numpy", "zarr")  # another version may give other bytes


@dataclass(frozen=True)
class Staging:
    """A directory of ready tiles, numbered by their place among the reader's ids.

    Attributes:
        folder: The resume directory of a season; nothing else lies in it.
        key: Of `key_of`.
    """

    folder: Path
    key: str

    def open(self) -> set[int]:
        """Make the directory, sweep away what is of another key or torn, and return the numbers of the ready tiles."""
        own = self.folder / self.key
        for other in self.folder.iterdir() if self.folder.is_dir() else ():
            if other != own:
                shutil.rmtree(other)
        own.mkdir(parents=True, exist_ok=True)
        ready = set()
        for path in own.iterdir():
            if path.suffix == ".tile" and _sound(path.read_bytes()):
                ready.add(int(path.stem))
            else:
                path.unlink()
        return ready

    def write(self, number: int, tile: Packed, count: Count) -> None:
        """Put a tile there, whole or not at all."""
        lengths = {name: [len(chunk) for chunk in tile.chunks[name]] for name in tile.chunks}
        facts = {"tile": vars(replace(tile, chunks={})), "count": vars(count), "chunks": lengths}
        header = json.dumps(facts).encode()
        body = [len(header).to_bytes(LENGTH_BYTES, "little"), header, *chain.from_iterable(tile.chunks.values())]
        crc = reduce(google_crc32c.extend, body, 0)
        part = self._path(number).with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            file.writelines([*body, crc.to_bytes(CRC_BYTES, "little")])
        part.rename(self._path(number))

    def read(self, number: int) -> tuple[Packed, Count]:
        """A tile that is there.

        Raises:
            BadInput: It was damaged since `open`; the next `open` sweeps it away, so that it is made again.
        """
        raw = self._path(number).read_bytes()
        if not _sound(raw):
            raise BadInput(self._path(number), "a tile put aside is damaged", "run the step again: it is made again")
        at = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")
        facts = json.loads(raw[LENGTH_BYTES:at])
        chunks: dict[str, list[bytes]] = {}
        for name, lengths in facts["chunks"].items():
            chunks[name] = []
            for length in lengths:
                chunks[name].append(raw[at : at + length])
                at += length
        return Packed(**(facts["tile"] | {"chunks": chunks})), Count(**facts["count"])

    def clear(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / self.key / f"{number:06}.tile"


def key_of(params: Any, sources: Sequence[Path], root: Path) -> str:
    """What ready tiles depend on, as a name, the same wherever the workspace stands.

    Args:
        params: What is set.
        sources: What is read, inside `root`: of every file name, size and time count, of a linked part what is linked.
        root: The workspace's directory.
    """
    files = [known for source in sources for known in _known(source, root)]
    versions = {name: metadata.version(name) for name in LIBRARIES}
    known = json.dumps([params, code_digest("prepare"), versions, files], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _known(source: Path, root: Path) -> Iterator[tuple[str | int, ...]]:
    if file_of(source) != source:
        yield str(source.relative_to(root)), digest(source)
        return
    files = [source]
    if source.is_dir():
        files = sorted(Path(folder, name) for folder, _, names in os.walk(source, followlinks=True) for name in names)
    for file in files:
        at = file.stat()
        yield str(file.relative_to(root)), at.st_size, at.st_mtime_ns


def _sound(raw: bytes) -> bool:
    """Whether a ready tile is whole; an empty file, as a power cut leaves it, has the checksum of nothing."""
    body, crc = raw[:-CRC_BYTES], int.from_bytes(raw[-CRC_BYTES:], "little")
    return len(body) > LENGTH_BYTES and google_crc32c.value(body) == crc
