"""What the readers of all layouts share: the reader's interface, sorted single dates, class and band tables, integers.

A tile that breaks a rule raises `BadInput`; what is repaired instead is told to `Findings`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stcln.data.tile import VOID, Tile
from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

SPAN = np.timedelta64(475, "D")  # 1.3 years: a season's dates lie within so much of its start
YEAR = np.timedelta64(366, "D")
HIGHEST = np.iinfo(np.int16).max
OUTSIDE = "dates outside the season's span, left out"  # what `tidy` finds; validation.json states the rules
UNSORTED = "dates unsorted, sorted"
MERGED = "images of a day that has another, merged"

Cube3 = tuple[NDArray[np.datetime64], NDArray[np.int16], NDArray[np.bool_]]
"""Dates [T], values [T,C,H,W], valid [T,H,W]."""
Place = tuple[str, tuple[float, float, float, float, float, float]]
"""Coordinate reference system and affine coefficients, as in `Tile`."""


class Findings:
    """What was repaired or left out, by sentence and tile, for validation.json."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def add(self, what: str, tile: str, count: int = 1) -> None:
        """Count an event in a tile; a count of 0 is not an event."""
        if count:
            tiles = self.counts.setdefault(what, {})
            tiles[tile] = tiles.get(tile, 0) + int(count)

    def take(self, tile: str) -> dict[str, int]:
        """Remove what was found in a tile, and return it: events by sentence."""
        taken = {what: tiles.pop(tile) for what, tiles in self.counts.items() if tile in tiles}
        self.counts = {what: tiles for what, tiles in self.counts.items() if tiles}
        return taken


class Reader(Protocol):
    """A season of an archive: cheap to make anew in every process, and it can be pickled.

    Attributes:
        bands: Names of the bands read: those of `Tile.reflectance`, then those of `Tile.radar` (`S1A_VV`, ...).
        classes: Class names by index.
        ids: The tiles to read, in order.
        sources: The files and directories that this season is read from, and no other season's.
        absent: Ids that the season's list names and the archive lacks, by reason.
        unlisted: Ids of the archive that no season's list names, by reason: told, and never counted as absent.
        findings: Filled by `read`.
    """

    bands: tuple[str, ...]
    classes: tuple[str, ...]
    ids: Sequence[str]
    sources: "Sequence[Path | UPath]"
    absent: Mapping[str, Sequence[str]]
    unlisted: Mapping[str, Sequence[str]]
    findings: Findings

    def read(self, tile: str) -> Tile:
        """Read one tile; nothing is kept of it but what `findings` counts.

        Raises:
            BadInput: It is broken, with the reason.
        """


def batches(reader: Reader) -> Sequence[Sequence[str]]:
    """A reader's ids in batches, each for one process to read in turn: its tiles share what is read of the archive.

    A reader whose tiles share something has them as its attribute `batches`; else every tile is alone.
    """
    found: Sequence[Sequence[str]] = getattr(reader, "batches", [[name] for name in reader.ids])
    return found


def tidy(where: str, tile: str, start: date, series: Cube3, findings: Findings, of: str = "") -> Cube3:
    """Sort a series, merge the images of one day, leave out dates outside the season's span [start, start + 475 days).

    Of a day with several images every pixel takes the first that is valid there, in the archive's order.

    Args:
        where: The file, for messages.
        tile: The tile's id.
        start: Day 0 of the season.
        series: In the archive's order.
        findings: Told what was done.
        of: Words before what is told, where a tile has several series.

    Returns:
        The series; the arrays given, where nothing had to be done.

    Raises:
        BadInput: No date is left, one is not a date, or the middle one is not in the year that begins on `start`: then
            the images are another season's, some of which lie in the span too.
    """
    dates, values, valid = series
    if np.isnat(dates).any():
        raise BadInput(where, "a date is missing", "mend the dates of the archive")
    begin = np.datetime64(start)
    inside = np.flatnonzero((dates >= begin) & (dates < begin + SPAN))
    findings.add(of + OUTSIDE, tile, len(dates) - len(inside))
    if not len(inside):
        raise BadInput(
            where, f"no date between {begin} and {begin + SPAN}", "check dataset.season_start and the season"
        )
    middle = np.sort(dates)[len(dates) // 2]
    if not begin <= middle < begin + YEAR:
        problem = f"the middle one of its dates is {middle}: its images are of another season"
        raise BadInput(where, problem, f"check dataset.season_start and the season, whose year begins on {begin}")
    steps = np.diff(dates)
    if len(inside) == len(dates) and (steps > np.timedelta64(0)).all():
        return series
    findings.add(of + UNSORTED, tile, int((steps < np.timedelta64(0)).any()))
    order = inside[np.argsort(dates[inside], kind="stable")]
    merged = _merge((dates, values, valid), order)
    findings.add(of + MERGED, tile, len(order) - len(merged[0]))
    return merged


def _merge(series: Cube3, order: NDArray[np.intp]) -> Cube3:
    """A series in an order that is ascending by date, one image a day, by the rule of `tidy`."""
    dates, values, valid = series
    unique, first = np.unique(dates[order], return_index=True)
    kept, seen = values[order[first]], valid[order[first]]
    for i in np.setdiff1d(np.arange(len(order)), first):
        day = int(np.searchsorted(unique, dates[order[i]]))
        fill = valid[order[i]] & ~seen[day]
        kept[day] = np.where(fill, values[order[i]], kept[day])
        seen[day] |= fill
    return unique, kept, seen


def to_int16(values: NDArray[Any], tile: str, findings: Findings) -> NDArray[np.int16]:
    """Integers as int16; what lies beyond 32,767 on either side becomes that and is counted."""
    if values.dtype == np.int16:
        return values
    if values.size and (values.max() > HIGHEST or values.min() < -HIGHEST):
        findings.add("values above 32,767, clipped", tile, int(np.count_nonzero(values > HIGHEST)))
        findings.add("values below -32,767, clipped", tile, int(np.count_nonzero(values < -HIGHEST)))
        values = np.clip(values, -HIGHEST, HIGHEST)
    return values.astype(np.int16)


def class_table(
    where: str, archive: Mapping[int, str], wanted: Sequence[str]
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names by index, and the index of every raw value of the archive.

    Args:
        where: Name of the archive's list, for messages.
        archive: Name by raw value, in the archive's order.
        wanted: `dataset.classes`; empty: the archive's, without `void`. Names it leaves out become 255.

    Raises:
        BadInput: No name is wanted that the archive knows, or there are more than 255.
    """
    classes = tuple(wanted) or tuple(name for name in archive.values() if name != "void")
    if len(classes) > VOID or not set(classes) & set(archive.values()):
        problem = f"{len(classes)} classes wanted, of which {len(set(classes) & set(archive.values()))} are known here"
        raise BadInput(where, problem, f"name up to {VOID} of {sorted(set(archive.values()))} in dataset.classes")
    index = {name: i for i, name in enumerate(classes)}
    return classes, {raw: index.get(name, VOID) for raw, name in archive.items()}


def to_classes(where: str, raw: NDArray[Any], table: Mapping[int, int], remedy: str) -> NDArray[np.uint8]:
    """Class indices of raw labels, uint8 of the same shape.

    Raises:
        BadInput: A raw value is in no list.
    """
    known = np.array(sorted(table))
    at = np.searchsorted(known[:-1], raw)
    if (strange := known[at] != raw).any():
        raise BadInput(where, f"unknown class {', '.join(map(str, np.unique(raw[strange])))}", remedy)
    return np.array([table[value] for value in known.tolist()], np.uint8)[at]


def band_name(name: str) -> str:
    """The name of a Sentinel-2 band with two digits: `B2` and `B02` are `B02`."""
    return re.sub(r"^B(\d)$", r"B0\1", name)


def band_indices(where: str, found: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Indices into `found` of the wanted bands, in their order; all if none is wanted.

    Raises:
        BadInput: A wanted band does not exist.
    """
    names = [band_name(name) for name in found]
    if unknown := [name for name in wanted if band_name(name) not in names]:
        raise BadInput(where, f"no band {', '.join(unknown)}", f"choose dataset.bands among {', '.join(names)}")
    return [names.index(band_name(name)) for name in wanted] or list(range(len(names)))


def expect(where: str, what: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse a shape other than the wanted one."""
    if tuple(found) != tuple(wanted):
        problem = f"{what} has shape {tuple(found)}, not {tuple(wanted)}"
        raise BadInput(where, problem, "fetch the tile again, or leave it out")


def read_text(path: "Path | UPath") -> str:
    """The content of a text file.

    Raises:
        BadInput: It is missing or not text.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", "fetch the archive again, or check dataset.root") from None
    except UnicodeDecodeError as error:
        raise BadInput(path, f"not text: {error}", "fetch the archive again") from None
