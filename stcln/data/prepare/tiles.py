"""One tile on its way: read from the archive, compared with the season's first, counted, coded, put aside.

The same in the step's own process and in its workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stcln.data import archive
from stcln.data.prepare.count import Count
from stcln.data.prepare.staging import Staging
from stcln.data.readers.reading import Reader
from stcln.data.splits import plays
from stcln.data.store.packed import Packed, pack
from stcln.data.tile import Tile
from stcln.errors import BadInput, NoAnswer
from stcln.study import Dataset, Study

if TYPE_CHECKING:
    from upath import UPath

Make = Callable[["Path | UPath", Dataset, str], Reader]
"""Root of the layout, the study's data set, season."""


def _when_asked(module: str, name: str) -> Make:
    """A reader that is imported when it is made: only cubes and GeoTIFFs need what takes longest."""
    place = f"stcln.data.readers.{module}"
    return lambda root, dataset, season: getattr(import_module(place), name)(root, dataset, season)


READERS: dict[str, Make] = {
    "mtlcc": _when_asked("mtlcc", "Mtlcc"), "mtlcc-geotiff": _when_asked("mtlcc_geotiff", "MtlccGeotiff"),
    "pastis": _when_asked("pastis", "Pastis"), "cube": _when_asked("cubes", "Cubes"),
}  # fmt: skip
Task = Sequence[tuple[int, str]]
"""Numbers and ids of tiles that one process reads in turn."""
Done = list[tuple[int, BadInput | None]]
"""Numbers of a task's tiles, and why a tile was rejected."""


@dataclass(frozen=True)
class Work:
    """What a process needs to know to make tiles; it travels to workers.

    Attributes:
        study: The study.
        season: Its name.
        root: Where the archive lies, `dataset.root` not yet applied.
        staging: Where tiles are put.
        first: The season's first tile that is whole: all others have its shape and crs. None: not yet known.
    """

    study: Study
    season: str
    root: "Path | UPath"
    staging: Staging
    first: Packed | None = None

    def reader(self) -> Reader:
        """A reader of the season.

        Raises:
            BadInput: The archive lacks the season or a list.
        """
        dataset = self.study.dataset
        with archive.answering(self.root):
            top = self.root.joinpath(*Path(dataset.root).parts)  # in a bucket `.` would be a name
            return READERS[dataset.layout](top, dataset, self.season)

    def start(self) -> Callable[[Task], Done]:
        """Begin to work in a worker: open the archive, and return what makes the tiles of a task."""
        return self.by(self.reader())

    def by(self, reader: Reader) -> Callable[[Task], Done]:
        """What makes the tiles of a task with a reader that is there."""
        return lambda task: [(number, self._made(reader, number, name)) for number, name in task]

    def _made(self, reader: Reader, number: int, name: str) -> BadInput | None:
        """Make a tile, or say why it is rejected.

        Raises:
            NoAnswer: The archive's server does not answer, which says nothing of the tile.
        """
        try:
            with archive.answering(self.root):
                tile = reader.read(name)
            self._check_alike(tile)
        except NoAnswer:
            raise
        except BadInput as error:
            reader.findings.take(name)
            return error
        count = Count.of(tile, reader.bands, reader.findings.take(name))
        self.staging.write(number, pack(tile, _trained_on(self.study, tile)), count)
        return None

    def _check_alike(self, tile: Tile) -> None:
        if self.first is None:
            return
        first, where = self.first, f"tile {tile.id}"
        remedy = f"keep one shape and crs a season; if tile {first.id}, the first, is the odd one, take that out"
        if (shape := tile.reflectance.shape[1:]) != tuple(first.shape):
            raise BadInput(where, f"images have shape {shape}, those of tile {first.id} {tuple(first.shape)}", remedy)
        if tile.crs != first.crs:
            raise BadInput(where, f"lies in {tile.crs}, tile {first.id} in {first.crs}", remedy)


def _trained_on(study: Study, tile: Tile) -> bool:
    roles = (study.splits.train, study.splits.pretrain)
    return any(plays(role, tile.id, tile.split, study.method.lists) for role in roles)
