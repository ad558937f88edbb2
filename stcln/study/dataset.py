"""The data of a study: where the archive comes from, how it is laid out, and who plays which role in it."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stcln.study.part import Count, MonthDay, Part

PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # archives of many files in one


class Pin(Part):
    """What a file of the source is known to be."""

    bytes: Annotated[int, Field(ge=0)] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class Only(Part):
    """Some tiles of an archive, to try before fetching all of it. What is set must all hold."""

    tiles: tuple[str, ...] = ()
    """Ids."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """PASTIS: the fold; MTLCC: the lists `train_fold<n>`, `test_fold<n>` and `eval`."""
    limit: Count | None = None
    """So many tiles of each split, from the front, of those that the archive holds."""


class Dataset(Part):
    """Where the archive comes from and how it is laid out."""

    source: str
    """`simulated`, a directory, an fsspec URL (https, s3, file), or `zenodo:<record>`."""
    linked: bool = False
    """Read an fsspec source where it is: `fetch` writes a list of its files only. A directory is always read so."""
    only: Only = Only()
    """A trial: fetch and prepare these tiles only."""
    files: tuple[str, ...] = ()
    """Names to take from the source; empty: everything it holds."""
    layout: Literal["mtlcc", "mtlcc-geotiff", "pastis", "cube"]
    root: str = "."
    """The layout's top directory inside the archive."""
    season_start: MonthDay = "01-01"
    """Day 0 of positions. Months from July on fall in the year before the season's name."""
    classes: tuple[str, ...] = ()
    """Class names by index; empty: as the archive lists them. A cube whose seasons differ needs the list."""
    ignore: tuple[str, ...] = ()
    """Classes out of loss and metrics (background, unknown, void)."""
    bands: tuple[str, ...] = ()
    """Bands to keep, in this order; empty: all the layout has."""
    tile: Count = 32
    """Cubes only: side in pixels of the tiles a cube is cut into, on a grid fixed in map coordinates."""
    buffer: Annotated[int, Field(ge=0)] = 0
    """Cubes only: pixels at a tile's edge without label where the tile beside it has another split."""
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of tiles that may be broken before `prepare` fails."""
    max_absent: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of listed tiles that the archive may lack before `prepare` fails. The public MTLCC lists many."""

    @field_validator("season_start")
    @classmethod
    def _in_every_year(cls, day: str) -> str:
        date.fromisoformat(f"2001-{day}")  # its error says what is wrong
        return day

    @field_validator("root")
    @classmethod
    def _inside(cls, root: str) -> str:
        if Path(root).is_absolute() or ".." in Path(root).parts:
            raise ValueError("it leaves the archive")
        return root

    @model_validator(mode="before")
    @classmethod
    def _pins_have_moved(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "md5" in fields:
            raise ValueError("md5 is now `pinned: {<file>: {md5: ...}}`, at the top of the study")
        return fields

    @model_validator(mode="after")
    def _cubes_are_whole(self) -> "Dataset":
        if self.layout == "cube" and self.trial:
            raise ValueError("a cube is one file a season and has no tiles to choose from, so `only` cannot narrow it")
        return self

    @property
    def trial(self) -> bool:
        """Whether `only` narrows the archive; what is made of it is called a trial wherever it stands."""
        return self.only != Only()

    @property
    def local(self) -> bool:
        """Whether the source is a path on this machine: data/raw then leads to it, or can be had from it again."""
        elsewhere = self.source == "simulated" or self.source.startswith("zenodo:") or "://" in self.source
        return self.source.startswith("file:") or not elsewhere

    @property
    def fixed(self) -> bool:
        """Whether all of a source is taken that never grows, a Zenodo record or packed archives: not by season."""
        packed = self.source.lower().endswith(PACKED) or bool(
            self.files and all(n.endswith(PACKED) for n in self.files)
        )
        return not self.trial and (self.source.startswith("zenodo:") or packed)

    def start(self, season: str) -> date:
        """Day 0 of a season's positions."""
        return first_day(self.season_start, season)


def first_day(season_start: str, season: str) -> date:
    """Day 0 of a season's positions: the day MM-DD of its year, or of the year before for months from July on."""
    month, day = (int(part) for part in season_start.split("-"))
    return date(int(season) - (month >= 7), month, day)


class Simulation(Part):
    """The simulated region, when `dataset.source` is `simulated`."""

    tiles: Count = 24
    """Tiles a season."""
    size: Count = 24
    """Side of a tile in pixels of 10 m."""
    dates: Count = 30
    """Acquisitions a season, before the cloudy ones."""


class Role(Part):
    """The tiles that play a role: native splits of the data set, narrowed by listed ids and crops."""

    take: tuple[str, ...]
    """Native splits: `fold_1`.. (PASTIS); `train_fold0`, `eval`.. (MTLCC); `train`, `validation`, `test` (cube)."""
    tiles: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    """Listed ids, or lists by class; empty: all."""
    per_class: Count | None = None
    """With lists by class: so many of each, from the front."""
    crops: tuple[tuple[int, int], ...] = ()
    """Windows (row, column) of `finetune.window` pixels to use of each tile; empty: all."""


class Splits(Part):
    """Which tiles pre-train, train, validate and test."""

    pretrain: Role
    train: Role
    validation: Role
    test: Role
