"""How a study learns: lengths of the season, the network, its trainings and the machine."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from stcln.study.part import Count, Fraction, MonthDay, Name, Part


class Length(Part):
    """A cut of the season by a rule on dates. No field set: every date."""

    dates: Count | None = None
    """So many dates."""
    choose: Literal["even", "random"] = "even"
    """Evenly spaced in rank, the same at every read; or drawn anew, in training only (testing is then even)."""
    until: MonthDay | None = None
    """Only dates up to this day of the season's own year."""


class Model(Part):
    """The network's size."""

    size: Literal["tiny", "base", "large"] = "base"


class Mask(Part):
    """What pre-training hides."""

    kind: Literal["pixel", "date", "batch-date"] = "pixel"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    ndvi: float = 0.2
    """A pixel is green above this NDVI."""
    vegetation: Annotated[float, Field(ge=0, le=1)] = 0.9
    """A date of a sample may be masked only if more than this share of its pixels is green; 0 switches the gate off."""


def _parts(value: Any) -> int | Literal["auto"]:
    if value == "auto" or (type(value) is int and value >= 1):
        return value  # type: ignore[no-any-return]
    raise ValueError("it is neither a number from 1 on nor auto")


class Optimisation(Part):
    """Adam with warm-up and cosine decay, or constant as published."""

    epochs: Count = 100
    batch: Count = 4
    window: Count = 32
    """Side in pixels of the square window a sample is; the same at training, test and map time."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest gradient norm."""
    accumulate: Annotated[int | Literal["auto"], PlainValidator(_parts)] = 1
    """Parts in which a batch goes through the network, one a sample at most; auto: more as soon as memory runs out."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.accumulate != "auto" and self.accumulate > self.batch:
            raise ValueError(f"accumulate is {self.accumulate}, more parts than a batch of {self.batch} has samples")
        return self


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


class Method(Part):
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


class Drift(Part):
    """What a new season may differ by from those trained on, before its models must. See docs/seasons.md."""

    error: Annotated[float, Field(ge=1)] = 1.5
    """Reuse up to so many times the error with which the encoder fills in held-out tiles."""
    error_again: Annotated[float, Field(ge=1)] = 3.0
    """Pre-train again above so many times that error."""
    ndvi: Annotated[float, Field(ge=0, le=2)] = 0.1
    """Reuse up to so much between NDVI curves, mean over crops and months."""
    classes: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Reuse while no more than this share of the labelled pixels would have to change crop."""


class Arm(Part):
    """How many labels a model sees. How it starts is said by the list in `cells` that names it."""

    labels: Fraction = 1.0
    """Share of the labelled training pixels, stratified by class and by tile."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """In place of `finetune.learning_rate`."""


class Compute(Part):
    """The machine. Results repeat bit for bit only with the same settings."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware has it, else float32."""
    threads: Count | None = None
    """CPU threads; empty: all cores that this process, or its container, may use."""


class Loading(Part):
    """How images reach the network. No result depends on it, and no stage."""

    memory: Annotated[float, Field(ge=0)] = 4.0
    """GiB of images that a training may hold. Where its windows need more they are read again in every epoch."""


class Champion(Part):
    """What decides which model is served."""

    seasons: tuple[Name, ...] = ()
    """The agreed seasons: those whose test scores choose a model and decide on its promotion; none named: all."""
    licence: str = ""
    """Licence of the data and of what is made of them, as the model card is to state it."""
