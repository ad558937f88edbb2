"""What every cell costs, beside how good it is: counted, the same wherever the study runs; and measured, where it ran.

`measured` reads the measurements. Without them the section is that of the page that DVC tracks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from stcln.meter import SOURCE, WATTS
from stcln.report import html
from stcln.report.collect import Results
from stcln.report.measured import Measured, Taken, three
from stcln.spread import Spread

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
HEAD = (
    "arm", "length", "mIoU", "parameters", "multiply-adds\na km² of map", "multiply-adds\na km² tested",
    "multiply-adds\nof a training",
)  # fmt: skip
HEAD_MEASURED = (
    "training\ns", "training\nCPU s", "training\nGB", "training\nWh", "evaluation\ns", "evaluation\nWh",
    "predicting\ns a km² tested",
)  # fmt: skip
NO_RECORD = "no record here"
COUNTED = (
    "mIoU on the cell's own season. Multiply-adds of matrix products and convolutions, counted; FLOPs are twice as "
    "many. Left out: norms, activations, softmax, the optimiser. Of a map much larger than a window, whose windows "
    "overlap by a quarter of their side, so that each pixel is computed 1.8 times; of the test tiles, as they were "
    "predicted. A training is that of one model: in every epoch that ran three forward passes for a training window "
    "and one for a validation window."
)
MEASURED = (
    "Seconds by the clock and CPU seconds are of the whole step and all seeds, start-up and reading included; what an "
    "interrupted run had spent before is not in them. Memory is the step's highest. Seconds a km² are of predicting "
    "alone, for one model. They are of the last run here, if it made what stands; what came by `dvc pull` or from the "
    "cache may have no record."
)
ENERGY = (
    f"Energy is an estimate: CPU seconds × {WATTS:g} W for a busy core, an assumption ({SOURCE}), and what a GPU's own "
    "counter counted. Memory, disks, idle parts and cooling are left out."
)
ELSEWHERE = (
    "Seconds and energy differ between equal runs, so this page, the same wherever the study runs, holds none. "
    "Where it ran, `reports/index.html` is this page with them and `reports/cost.json` lists them; neither comes with "
    "`dvc pull`."
)


@dataclass(frozen=True)
class Row:
    """A cell. Multiply-adds a km2 of a map and of the test tiles; `training`: of one model, mean over seeds."""

    season: str
    length: str
    arm: str
    miou: Spread
    parameters: int
    map_multiply_adds_per_km2: int
    tile_multiply_adds_per_km2: int
    training_multiply_adds: float | None

    def texts(self) -> list[str]:
        """As the table has it, from mIoU on."""
        numbers = (
            self.parameters, self.map_multiply_adds_per_km2, self.tile_multiply_adds_per_km2,
            self.training_multiply_adds,
        )  # fmt: skip
        return [self.miou.text(), *(si(number) for number in numbers)]


def rows(results: Results) -> list[Row]:
    """A row a cell, in the study's order."""
    found = []
    for cell in results.cells:
        own = results.test(cell.season, cell.length, cell.arm, cell.season)
        trained = [h["multiply_adds"] for h in cell.histories.values() if "multiply_adds" in h]
        found.append(
            Row(
                cell.season, cell.length, cell.arm, Spread.of(own.values["miou"]) if own else Spread(0, None, 0),
                cell.cost["parameters"], cell.cost["map_multiply_adds_per_km2"],
                cell.cost["tile_multiply_adds_per_km2"], fmean(trained) if trained else None,
            )
        )  # fmt: skip
    return found


def si(number: float | None) -> str:
    """Three digits and a unit: `3.05 M`; a dash for None."""
    if number is None:
        return "–"
    scale, unit = next(((scale, unit) for scale, unit in UNITS if number >= scale), (1, ""))
    return f"{three(number / scale)} {unit}".rstrip()


def section(results: Results, measured: Measured | None = None) -> str:
    """The section of the page."""
    lines = []
    for season, cells in groupby(rows(results), key=lambda row: row.season):
        head = (*HEAD, *(HEAD_MEASURED if measured else ()))
        lines.append(html.group(f"trained on {season}", len(head)))
        for row in cells:
            words = [html.cell(row.arm, "t"), html.cell(row.length, "t")]
            texts = [*row.texts(), *(_taken(measured, row) if measured else ())]
            lines.append(f"<tr>{''.join([*words, *map(html.cell, texts)])}</tr>")
    said = [COUNTED, MEASURED, ENERGY] if measured else [COUNTED, ELSEWHERE]
    return html.section(
        "cost", "Cost beside quality", html.table(head, lines, texts=2), html.paragraph(_pretraining(results)),
        html.listing(measured.words()) if measured else "", *(html.paragraph(text, "note") for text in said),
    )  # fmt: skip


def markdown(results: Results) -> tuple[list[str], Iterable[Sequence[str]], list[str]]:
    """Head and rows of the table, and what is said below it."""
    head = ["trained", "length", "arm", *(name.replace("\n", " ") for name in HEAD[2:])]
    return (
        head,
        ([r.season, r.length, r.arm, *r.texts()] for r in rows(results)),
        [_pretraining(results), COUNTED, ELSEWHERE],
    )


def summary(results: Results) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [{**asdict(row), "miou": row.miou.json()} for row in rows(results)]


def _pretraining(results: Results) -> str:
    found = results.pretraining
    if not found or "multiply_adds" not in found:
        return "No pre-training to count."
    epochs = len(found["epochs"])
    return (
        f"Pre-training, once for all pretrained arms: {si(found['multiply_adds'])} multiply-adds in "
        f"{epochs} epoch{'s' * (epochs != 1)}."
    )


def _taken(measured: Measured, row: Row) -> list[str]:
    training, evaluation = (
        measured.cells[row.season, row.length, row.arm][step] for step in ("training", "evaluation")
    )
    return [
        *_texts(training, "seconds", "cpu_seconds", "gigabytes", "watt_hours"),
        *_texts(evaluation, "seconds", "watt_hours", "seconds_per_km2"),
    ]


def _texts(taken: Taken | None, *names: str) -> list[str]:
    return [taken.text(name) for name in names] if taken else [NO_RECORD, *"–" * (len(names) - 1)]
