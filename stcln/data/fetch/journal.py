"""What of a file has arrived: which bytes, of which version. It survives a kill, and a machine that is switched off."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Span = tuple[int, int]  # first byte, byte after the last


@dataclass(frozen=True)
class Journal:
    """One file's state.

    Attributes:
        url: Where its bytes come from.
        version: The source's version of it; empty if the source tells none.
        size: Bytes; None if the source does not tell.
        held: What has arrived and is safe on the disk, in order, no two spans touching.
        md5: The checksum of the whole, once all of it is there.
    """

    url: str
    version: str
    size: int | None
    held: tuple[Span, ...] = ()
    md5: str | None = None

    def same(self, other: "Journal") -> bool:
        """Whether both are of one version of one file."""
        return (self.url, self.version, self.size) == (other.url, other.version, other.size)


def load(path: Path) -> Journal | None:
    """Read a journal; None if there is none, or a crash left it unreadable: the file is then begun anew."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return Journal(**{**found, "held": tuple((int(a), int(b)) for a, b in found["held"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save(path: Path, journal: Journal) -> None:
    """Write a journal, whole or not at all, down to the disk; the bytes it speaks of must be there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as out:
        json.dump(asdict(journal), out)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def joined(held: tuple[Span, ...], new: Span) -> tuple[Span, ...]:
    """Spans with one more; those that touch become one."""
    apart = [span for span in held if span[1] < new[0] or span[0] > new[1]]
    touching = [span for span in held if span not in apart]
    whole = (min([new[0], *(a for a, _ in touching)]), max([new[1], *(b for _, b in touching)]))
    return tuple(sorted([*apart, whole]))


def missing(held: tuple[Span, ...], size: int, most: int) -> list[Span]:
    """What of `size` bytes is not held, from the front, in pieces of up to `most` bytes."""
    edges = [0, *(edge for span in held for edge in span), size]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return [(at, min(at + most, end)) for begin, end in gaps for at in range(begin, end, most)]
