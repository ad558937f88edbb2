"""What the steps of a study took on this machine, by their run records: nothing here is the same twice."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import log10
from pathlib import Path
from typing import Any

from stcln import runs
from stcln.meter import watt_hours
from stcln.stages import evaluate_stage, finetune_stage, name_of
from stcln.workspace import Workspace

GB = 1e9


def three(value: float) -> str:
    """A number in three digits, whole from a hundred on."""
    return f"{value:,.{2 - min(2, int(log10(value)))}f}" if value >= 1 else f"{value:.3g}"


@dataclass(frozen=True)
class Taken:
    """What a step took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of all threads.
        gigabytes: Its highest memory.
        watt_hours: Estimated energy; None where a GPU was used whose energy nobody counted.
        seconds_per_km2: Of an evaluation: predicting alone, by one model.
        device: What it computed on.
        day: When it began, YYYY-MM-DD.
    """

    seconds: float
    cpu_seconds: float
    gigabytes: float
    watt_hours: float | None
    seconds_per_km2: float | None
    device: str
    day: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Taken":
        """From a run record."""
        return cls(
            record["seconds"], record["cpu_seconds"], record["peak_memory"] / GB, watt_hours(record),
            record["summary"].get("predict_seconds_per_km2"), record["device"], record["started"][:10],
        )  # fmt: skip

    def text(self, name: str) -> str:
        """A number of it in three digits, or a dash."""
        value = getattr(self, name)
        return "–" if value is None else three(value)


@dataclass(frozen=True)
class Measured:
    """What the steps of a study took; None where the last run here, if any, did not make what stands.

    Attributes:
        pretraining: Of the encoder.
        cells: By season, length and arm: `training` and `evaluation`.
    """

    pretraining: Taken | None
    cells: Mapping[tuple[str, str, str], Mapping[str, Taken | None]]

    def steps(self) -> Iterator[tuple[str, Taken | None]]:
        """Every step with its name."""
        yield "pretrain", self.pretraining
        for key, steps in self.cells.items():
            yield from ((f"{name} {'-'.join(key)}", taken) for name, taken in steps.items())

    def words(self) -> list[str]:
        """The encoder's, all together, and on what."""
        steps = [taken for _, taken in self.steps()]
        known = [taken for taken in steps if taken]
        said = []
        if one := self.pretraining:
            said.append(
                f"Pre-training took {one.text('seconds')} s ({one.text('cpu_seconds')} CPU s), {one.text('gigabytes')} "
                f"GB and {one.text('watt_hours')} Wh."
            )
        if known:
            devices, days = sorted({one.device for one in known}), sorted({one.day for one in known})
            energy = [one.watt_hours for one in known if one.watt_hours is not None]
            said.append(
                f"{len(known)} of {len(steps)} trainings and evaluations have a record here: "
                f"{' and '.join(devices)}, {' to '.join(dict.fromkeys((days[0], days[-1])))}, "
                f"{sum(one.seconds for one in known):,.0f} s in all, and {three(sum(energy))} Wh by the {len(energy)} "
                "whose energy is known."
            )
        return said or [
            "No training or evaluation of what stands has a record here: it came from elsewhere, or from the cache."
        ]

    def json(self) -> dict[str, Any]:
        """By step; null without a record."""
        return {name: taken and asdict(taken) for name, taken in self.steps()}


def measured(workspace: Workspace) -> Measured:
    """Read the run records of a study's trainings and evaluations."""
    study, found = workspace.study, {}
    for season in study.cells.season:
        for length in study.cells.length:
            for arm in study.cells.arm:
                keys = {"season": season, "length": length, "arm": arm}
                found[season, length, arm] = {
                    "training": taken(
                        workspace, name_of(finetune_stage(study, arm), **keys), workspace.finetuned(**keys)
                    ),
                    "evaluation": taken(workspace, name_of(evaluate_stage(study, arm), **keys), workspace.cell(**keys)),
                }
    return Measured(taken(workspace, "pretrain", workspace.pretrained), found)


def taken(workspace: Workspace, stage: str, output: Path) -> Taken | None:
    """What a stage took in its last run here, if that made the output which stands."""
    record = runs.read(workspace, stage, output)
    try:
        return Taken.of(record) if record else None
    except (KeyError, TypeError):  # of an older version
        return None
