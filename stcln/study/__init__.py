"""A study: params.yaml as frozen, validated models. Every hyper-parameter of every step lives here and nowhere else."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator, model_validator

from stcln.errors import BadInput
from stcln.study.ablation import Ablation, merged
from stcln.study.dataset import PACKED, Dataset, Only, Pin, Role, Simulation, Splits, first_day
from stcln.study.learning import (
    Arm,
    Champion,
    Compute,
    Drift,
    Finetune,
    Length,
    Loading,
    Mask,
    Method,
    Model,
    Optimisation,
    Pretrain,
)
from stcln.study.part import Name, Part
from stcln.study.reading import first_fault, read_part

__all__ = [
    "PACKED", "YEAR", "Ablation", "Arm", "Cells", "Champion", "Compute", "Dataset", "Drift", "Finetune", "Length",
    "Loading",
    "Mask", "Method", "Model", "Only", "Optimisation", "Pin", "Pretrain", "Role", "Simulation", "Splits", "Study",
    "first_day", "load_study",
]  # fmt: skip

YEAR = re.compile("[1-9][0-9]{3}")


class Cells(Part):
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


class Study(Part):
    """One study: a data set, its seasons, lengths, arms, and every hyper-parameter."""

    name: Name
    title: str = ""
    seed: Annotated[int, Field(ge=0)] = 3407
    dataset: Dataset
    pinned: dict[str, Pin] = Field(default_factory=dict)
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
    drift: Drift = Drift()
    loading: Loading = Loading()
    champion: Champion = Champion()
    ablation: Ablation | None = None
    """Variants to compare with the study; none: it has no stage `ablate`."""

    @property
    def simulated(self) -> bool:
        """Whether the data are simulated; a report says so wherever a number stands."""
        return self.dataset.source == "simulated"

    @property
    def agreed(self) -> tuple[str, ...]:
        """The seasons whose test scores decide what is served."""
        return self.champion.seasons or self.cells.season

    def variant(self, name: str) -> "Study":
        """The study with the fields of a variant changed, without an ablation of its own.

        Raises:
            ValueError: It is no study, or there is no such variant; the first fault is named.
        """
        variants = self.ablation.variants if self.ablation else {}
        if name not in variants:
            raise ValueError(f"ablation.variants: no {name!r} among {list(variants)}")
        try:
            values = self.model_dump(mode="json", exclude={"ablation"})
            return Study.model_validate(merged(values, variants[name]))
        except ValidationError as error:
            field, message = first_fault(error, "study")
            raise ValueError(f"ablation.variants.{name}: {field}: {message}") from None

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
            ("champion.seasons", self.champion.seasons, self.cells.season),
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

    @model_validator(mode="after")
    def _variants_are_studies(self) -> "Study":
        if self.ablation is not None:
            for field, used, known in (
                ("season", self.ablation.season, self.cells.season),
                ("length", (self.ablation.length,), self.cells.length),
            ):
                if unknown := [name for name in used if name not in known]:
                    raise ValueError(f"ablation.{field}: {unknown} not among {list(known)}")
            for name in self.ablation.variants:
                self.variant(name)
        return self


def load_study(path: Path) -> Study:
    """Read and check a params.yaml.

    Raises:
        BadInput: It is missing, not YAML, or a field is unknown, absent, twice there or out of range, named.
    """
    absent = ("no study here", "run `python -m stcln new` or change into a workspace")
    return read_part(path, Study, absent, "studies/ has examples")
