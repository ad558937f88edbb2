"""A study: params.yaml as frozen, validated models. Every hyper-parameter of every step lives here and nowhere else."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stcln.errors import BadInput

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
MonthDay = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
YEAR = re.compile("[1-9][0-9]{3}")


class _Part(BaseModel):
    """A section of params.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


class Pin(_Part):
    """What a file of the source is known to be."""

    bytes: Annotated[int, Field(ge=0)] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class Only(_Part):
    """Some tiles of an archive, to try before fetching all of it. What is set must all hold."""

    tiles: tuple[str, ...] = ()
    """Ids."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """PASTIS: the fold; MTLCC: the lists `train_fold<n>`, `test_fold<n>` and `eval`."""
    limit: Count | None = None
    """So many tiles of each split, from the front, of those that the archive holds."""


class Dataset(_Part):
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

    def start(self, season: str) -> date:
        """Day 0 of a season's positions."""
        return first_day(self.season_start, season)


def first_day(season_start: str, season: str) -> date:
    """Day 0 of a season's positions: the day MM-DD of its year, or of the year before for months from July on."""
    month, day = (int(part) for part in season_start.split("-"))
    return date(int(season) - (month >= 7), month, day)


class Simulation(_Part):
    """The simulated region, when `dataset.source` is `simulated`."""

    tiles: Count = 24
    """Tiles a season."""
    size: Count = 24
    """Side of a tile in pixels of 10 m."""
    dates: Count = 30
    """Acquisitions a season, before the cloudy ones."""


class Role(_Part):
    """The tiles that play a role: native splits of the data set, narrowed by listed ids and crops."""

    take: tuple[str, ...]
    """Native splits: `fold_1`.. (PASTIS); `train_fold0`, `eval`.. (MTLCC); `train`, `validation`, `test` (cube)."""
    tiles: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    """Listed ids, or lists by class; empty: all."""
    per_class: Count | None = None
    """With lists by class: so many of each, from the front."""
    crops: tuple[tuple[int, int], ...] = ()
    """Windows (row, column) of `finetune.window` pixels to use of each tile; empty: all."""


class Splits(_Part):
    """Which tiles pre-train, train, validate and test."""

    pretrain: Role
    train: Role
    validation: Role
    test: Role


class Length(_Part):
    """A cut of the season by a rule on dates. No field set: every date."""

    dates: Count | None = None
    """So many dates."""
    choose: Literal["even", "random"] = "even"
    """Evenly spaced in rank, the same at every read; or drawn anew, in training only (testing is then even)."""
    until: MonthDay | None = None
    """Only dates up to this day of the season's own year."""


class Model(_Part):
    """The network's size."""

    size: Literal["tiny", "base", "large"] = "base"


class Mask(_Part):
    """What pre-training hides."""

    kind: Literal["pixel", "date", "batch-date"] = "pixel"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    ndvi: float = 0.2
    """A pixel is green above this NDVI."""
    vegetation: Annotated[float, Field(ge=0, le=1)] = 0.9
    """A date of a sample may be masked only if more than this share of its pixels is green; 0 switches the gate off."""


class Optimisation(_Part):
    """Adam with warm-up and cosine decay, or constant as published."""

    epochs: Count = 100
    batch: Count = 4
    window: Count = 32
    """Side in pixels of the square window a sample is; the same at training, test and map time."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest gradient norm."""


class Pretrain(Optimisation):
    """Masked pre-training."""

    crops: Literal["grid", "random"] = "grid"
    """Windows side by side in every tile; or as many at random places in it, drawn anew in every epoch."""
    seasons: tuple[Name, ...]
    length: Name
    mask: Mask = Mask()


class Finetune(Optimisation):
    """Fine-tuning of a cell."""

    seeds: Count = 3
    """Independent runs in a cell."""
    patience: Count | None = None
    """Early stop after so many epochs without a better validation score."""
    augment: bool = True
    """Flips and quarter turns."""
    folds: Annotated[int, Field(ge=0)] = 0
    """0: select on the validation tiles. k: hold 1/k of the training labels back instead, another part a seed."""


class Method(_Part):
    """Where the published code is at fault, and what is done instead. Left: ours. Right: as published."""

    positions: Literal["days", "index"] = "days"
    padding: Literal["masked", "attended"] = "masked"
    clouds: Literal["masked", "seen"] = "masked"
    vegetation: Literal["reflectance", "normalised"] = "reflectance"
    statistics: Literal["training", "split"] = "training"
    dates: Literal["rule", "redrawn"] = "rule"
    lists: Literal["checked", "as-published"] = "checked"
    excluded: Literal["truth", "truth-and-predicted"] = "truth"
    test_window: Literal["same", "tile"] = "same"
    empty_mask: Literal["redraw", "step"] = "redraw"


class Arm(_Part):
    """How many labels a model sees. How it starts is said by the list in `cells` that names it."""

    labels: Fraction = 1.0
    """Share of the labelled training pixels, stratified by class and by tile."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """In place of `finetune.learning_rate`."""


class Cells(_Part):
    """The grid of cells: every season x length x arm. DVC's matrices and Dagster's partitions are these lists."""

    season: tuple[Name, ...] = Field(min_length=1)
    length: tuple[Name, ...] = Field(min_length=1)
    scratch: tuple[Name, ...]
    """Arms that start from random weights."""
    pretrained: tuple[Name, ...]
    """Arms that start from the pre-trained encoder."""

    @property
    def arm(self) -> tuple[str, ...]:
        """All arms."""
        return (*self.scratch, *self.pretrained)

    @field_validator("season", "length", "scratch", "pretrained")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"named twice in {list(names)}")
        return names


class Compute(_Part):
    """The machine. Results repeat bit for bit only with the same settings."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware has it, else float32."""
    threads: Count | None = None
    """CPU threads; empty: all cores."""


class Loading(_Part):
    """How images reach the network. No result depends on it, and no stage."""

    memory: Annotated[float, Field(ge=0)] = 4.0
    """GiB of images that a training may hold. Where its windows need more they are read again in every epoch."""


class Study(_Part):
    """One study: a data set, its seasons, lengths, arms, and every hyper-parameter."""

    name: Name
    title: str = ""
    seed: Annotated[int, Field(ge=0)] = 3407
    dataset: Dataset
    pinned: dict[str, Pin] = {}
    """What is known of the source's files, by name. `fetch` checks it, and adds what it found at the first download."""
    simulation: Simulation = Simulation()
    splits: Splits
    cells: Cells
    lengths: dict[Name, Length]
    arms: dict[Name, Arm]
    model: Model = Model()
    pretrain: Pretrain
    finetune: Finetune = Finetune()
    method: Method = Method()
    compute: Compute = Compute()
    loading: Loading = Loading()

    @property
    def simulated(self) -> bool:
        """Whether the data are simulated; a report says so wherever a number stands."""
        return self.dataset.source == "simulated"

    def check_cell(self, season: str, length: str, arm: str) -> None:
        """Refuse a cell that is not in the study.

        Raises:
            BadInput: A key is not in its list.
        """
        for field, value in (("season", season), ("length", length), ("arm", arm)):
            if value not in (known := getattr(self.cells, field)):
                raise BadInput(f"--{field}", f"{value!r} is not in the study", f"choose one of {', '.join(known)}")

    @model_validator(mode="after")
    def _names_are_defined(self) -> "Study":
        for field, used, known in (
            ("cells.length", self.cells.length, self.lengths),
            ("cells.arm", self.cells.arm, self.arms),
            ("pretrain.length", (self.pretrain.length,), self.lengths),
            ("pretrain.seasons", self.pretrain.seasons, self.cells.season),
        ):
            if unknown := [name for name in used if name not in known]:
                raise ValueError(f"{field}: {unknown} not among {list(known)}")
        if twice := set(self.cells.scratch) & set(self.cells.pretrained):
            raise ValueError(f"cells: {sorted(twice)} starts both from scratch and pretrained")
        if not self.cells.arm:
            raise ValueError("cells: no arm in scratch or pretrained")
        if bad := [season for season in self.cells.season if not YEAR.fullmatch(season)]:
            raise ValueError(f"cells.season: {bad} are not years")
        fixed = [name for name in {*self.cells.length, self.pretrain.length} if self.lengths[name].choose == "even"]
        if self.method.dates == "redrawn" and fixed:
            raise ValueError(f"method.dates: nothing is redrawn of lengths {sorted(fixed)}, give them `choose: random`")
        if self.pretrain.crops == "random" and self.splits.pretrain.crops:
            raise ValueError("pretrain.crops: random windows leave the ones that splits.pretrain.crops lists")
        if self.finetune.window != self.pretrain.window and self.method.test_window == "same":
            raise ValueError(
                f"finetune.window: {self.finetune.window} differs from pretrain.window {self.pretrain.window}"
            )
        return self


def load_study(path: Path) -> Study:
    """Read and check a params.yaml.

    Raises:
        BadInput: It is missing, not YAML, or a field is unknown, absent or out of range; the first such field is named.
    """
    try:
        return Study.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError:
        raise BadInput(path, "no study here", "run `python -m stcln new` or change into a workspace") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(path, f"not YAML: {' '.join(str(error).split())}", "mend the syntax") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "study"
        value = "" if isinstance(first.get("input"), dict) else f" (got {first.get('input')!r})"
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(
            f"{path}, field {field}", f"{message}{value}", "correct the field; studies/ has examples"
        ) from None
