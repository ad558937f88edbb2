"""What a source holds: its seasons by layout, their files, and whether a reader can read them.

A directory on this machine and a prefix in a bucket go through the same calls; credentials are the environment's, as
for `fetch`. How a layout is read is the readers' business.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

from upath import UPath

from stcln.data import archive
from stcln.data.fetch import listing
from stcln.data.fetch.elsewhere import stamp
from stcln.data.prepare.tiles import READERS
from stcln.data.readers import cube
from stcln.data.readers.pastis_files import middle
from stcln.data.readers.reading import Reader
from stcln.errors import BadInput, refusals_of_the_disk
from stcln.storage import read_json
from stcln.study import YEAR, Dataset
from stcln.workspace import Workspace

FOLDER = re.compile(r"data(\d\d)/?")
TRIED = 3  # tiles; a broken one in a season that is whole may be rejected later

Place = Path | UPath


@dataclass(frozen=True)
class Held:
    """What a source holds.

    Attributes:
        seasons: Years, in order.
        unreadable: What may be a season, by name, and why that cannot be told yet.
    """

    seasons: tuple[str, ...]
    unreadable: Mapping[str, str]


@dataclass(frozen=True)
class Season:
    """A season's files at one look.

    Attributes:
        reader: Reads it.
        files: How many.
        bytes: Of all of them.
        version: A digest of their names, sizes and times (or ETags).
    """

    reader: Reader
    files: int
    bytes: int
    version: str


def top(workspace: Workspace) -> Place | None:
    """The layout's directory at the source; None for a source that is not watched: it cannot be listed or never grows.

    Raises:
        BadInput: The source is a directory on this machine, and missing.
    """
    dataset = workspace.study.dataset
    if dataset.source == "simulated" or dataset.fixed or dataset.source.startswith(("http:", "https:", "zenodo:")):
        return None
    here = listing.local(workspace)
    if here and not here.is_dir():
        return None
    place: Place = here or UPath(dataset.source)
    return place.joinpath(*Path(dataset.root).parts)  # in a bucket `.` would be a name


@contextmanager
def looking(at: Place) -> Iterator[None]:
    """Look at a source as it is now; what its server or disk refuses is one sentence.

    Raises:
        BadInput: In place of what a file system raises.
    """
    with refusals_of_the_disk(), archive.answering(at):
        if isinstance(at, UPath):
            at.fs.invalidate_cache()
            at.fs.ls(at.path)  # `is_dir` below would take a server that is gone for an empty bucket
        elif not at.is_dir():
            raise BadInput(at, "no such directory", "check dataset.root")
        yield


def held(at: Place, dataset: Dataset) -> Held:
    """The seasons of a layout in a directory."""
    found, unreadable = {"cube": _cubes, "pastis": _dates}.get(dataset.layout, _folders)(at, dataset)
    return Held(tuple(sorted(season for season in found if YEAR.fullmatch(season))), unreadable)


def season(at: Place, dataset: Dataset, name: str) -> Season:
    """A season as it lies there now.

    Raises:
        BadInput: Its reader finds a list or a folder missing or not as it should be.
    """
    reader = READERS[dataset.layout](at, dataset, name)
    files = {key: value for path in reader.sources for key, value in _files(path)}
    text = json.dumps(files, sort_keys=True)
    return Season(reader, len(files), sum(size for size, _ in files.values()), hashlib.md5(text.encode()).hexdigest())


def try_reading(found: Season) -> None:
    """Read a tile, from the end of the season, since uploads go by name.

    Raises:
        BadInput: There is none, or none of the last ones is whole; the last one's problem.
    """
    if not found.reader.ids:
        raise BadInput("the season", "it holds no tile", "wait for the upload, or check its lists")
    problems = []
    for name in islice(reversed(found.reader.ids), TRIED):
        try:
            found.reader.read(name)
            return
        except BadInput as error:
            problems.append(error)
    raise problems[0]


def _files(path: Place) -> Iterator[tuple[str, tuple[int, str]]]:
    """Size and version of every file at a path, by address."""
    at = UPath(path)
    found = {at.path: at.fs.info(at.path)} if at.is_file() else at.fs.find(at.path, detail=True)
    for key, info in found.items():
        yield key, (int(info.get("size") or 0), stamp(info))


_Found = tuple[set[str], dict[str, str]]


def _cubes(at: Place, dataset: Dataset) -> _Found:
    """As the reader of cubes tells them."""
    found, unreadable = set(), {}
    for path in cube.paths(at):
        try:
            found.add(cube.Cube(path).season)
        except BadInput as error:
            unreadable[path.name] = error.problem
    return found, unreadable


def _folders(at: Place, dataset: Dataset) -> _Found:
    """`data19`; what `data` alone holds is not told by its name."""
    names = {path.name: path for path in at.iterdir()}
    return {f"20{match[1]}" for name, path in names.items() if (match := FOLDER.fullmatch(name)) and path.is_dir()}, {}


def _dates(at: Place, dataset: Dataset) -> _Found:
    """The seasons in which the patches' median dates lie."""
    path = at / "metadata.geojson"
    try:
        medians = {middle(str(path), feature["properties"]) for feature in read_json(path)["features"]}
    except BadInput as error:
        return set(), {path.name: error.problem}
    return {_season_of(date.fromisoformat(str(day)), dataset) for day in medians if day is not None}, {}


def _season_of(day: date, dataset: Dataset) -> str:
    """The latest season that a patch of a median day is of: the one whose year from day 0 on holds that day."""
    return max(str(year) for year in (day.year, day.year + 1) if dataset.start(str(year)) <= day)
