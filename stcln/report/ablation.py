"""The ablation in numbers: scores of every variant over seeds, and its paired difference to a question's first."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.errors import BadInput
from stcln.spread import FEW, Spread
from stcln.storage import read_json
from stcln.study import Study
from stcln.workspace import Workspace

SHOWN = ("miou", "oa", "mf1")
OWN, OTHER = "its own season", "another season"
PLACES = (OWN, OTHER)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """What a variant's runs gave.

    Attributes:
        name: In the study.
        idle: Why it changes nothing on these data, where it was not run for that; else empty.
        seeds: One a run; a run is pre-training and fine-tuning.
        scores: By arm, place (`OWN`, `OTHER`) and metric, float64 [runs], mean over the season pairs of the place.
        labelled: By arm, labelled pixels that trained it, mean over runs.
    """

    name: str
    idle: str
    seeds: tuple[int, ...]
    scores: Mapping[tuple[str, str], Mapping[str, Values]]
    labelled: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """A row of a question's table: scores of a variant's arm on a place, and paired differences to the first variant.

    `same`: every run scored exactly as the first variant's of equal seed.
    """

    variant: str
    arm: str
    place: str
    scores: Mapping[str, Spread]
    miou: Spread | None
    oa: Spread | None
    same: bool


@dataclass(frozen=True)
class Gain:
    """Pretrained minus scratch arm of a variant, equal labels, run by run."""

    variant: str
    arm: str
    against: str
    place: str
    miou: Spread
    oa: Spread


def read(workspace: Workspace) -> dict[str, Variant]:
    """The variants that have been run, in the study's order.

    Raises:
        BadInput: A file is broken.
    """
    ablation = workspace.study.ablation
    paths = {name: workspace.ablation(name) / "scores.json" for name in (ablation.variants if ablation else ())}
    found = {}
    for name, path in paths.items():
        if path.exists():
            try:
                found[name] = _variant(name, read_json(path))
            except (KeyError, TypeError, ValueError) as error:
                remedy = f"run `ablate --variant {name}` again"
                raise BadInput(path, f"not the scores of a variant: {error!r}", remedy) from None
    return found


def _variant(name: str, scores: Mapping[str, Any]) -> Variant:
    runs = scores["runs"]
    lists: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    labelled: dict[str, list[float]] = {}
    for index, run in enumerate(runs):
        for cell in run["cells"]:
            labelled.setdefault(cell["arm"], []).append(cell["labelled"])
            for season, test in cell["tests"].items():
                key = cell["arm"], OWN if season == cell["season"] else OTHER
                for metric in SHOWN:
                    by_run = lists.setdefault(key, {}).setdefault(metric, [[] for _ in runs])
                    by_run[index].append(test[metric])
    means = {key: {m: np.array([np.mean(v) for v in of]) for m, of in by.items()} for key, by in lists.items()}
    counts = {arm: float(np.mean(values)) for arm, values in labelled.items()}
    return Variant(name, scores.get("idle", ""), tuple(run["seed"] for run in runs), means, counts)


def lines(question: tuple[str, ...], found: Mapping[str, Variant]) -> list[Line]:
    """The rows of a question: place by place, variant by variant, arm by arm; of the variants that were run."""
    first = found.get(question[0])
    rows = []
    for place in PLACES:
        for one in (found[name] for name in question if name in found):
            for (arm, where), scores in one.scores.items():
                if where == place:
                    rows.append(_line(one, arm, place, scores, None if one is first else first))
    return rows


def _line(one: Variant, arm: str, place: str, scores: Mapping[str, Values], first: Variant | None) -> Line:
    spreads = {metric: Spread.of(values) for metric, values in scores.items()}
    theirs = first.scores.get((arm, place)) if first else None
    if first is None or theirs is None:
        return Line(one.name, arm, place, spreads, None, None, False)
    deltas = {m: _paired(one, scores[m], first, theirs[m]) for m in SHOWN}
    same = not any(delta.any() for delta in deltas.values())
    return Line(one.name, arm, place, spreads, Spread.of(deltas["miou"]), Spread.of(deltas["oa"]), same)


def _paired(one: Variant, values: Values, other: Variant, others: Values) -> Values:
    theirs = dict(zip(other.seeds, others, strict=True))
    return np.array([v - theirs[seed] for seed, v in zip(one.seeds, values, strict=True) if seed in theirs])


def gains(study: Study, question: tuple[str, ...], found: Mapping[str, Variant]) -> Iterator[Gain]:
    """What pre-training is worth in each variant: its pretrained arms minus the scratch arm of as many labels."""
    for one in (found[name] for name in question if name in found and found[name].seeds):
        arms = study.variant(one.name).arms
        for arm in study.cells.pretrained:
            against = next((a for a in study.cells.scratch if arms[a].labels == arms[arm].labels), None)
            for place in PLACES:
                ours, theirs = one.scores.get((arm, place)), one.scores.get((str(against), place))
                if ours and theirs:
                    miou, oa = (Spread.of(ours[m] - theirs[m]) for m in ("miou", "oa"))
                    yield Gain(one.name, arm, str(against), place, miou, oa)


def summary(workspace: Workspace) -> dict[str, Any] | None:
    """All numbers as JSON values; None for a study without an ablation that was run."""
    study, found = workspace.study, read(workspace)
    if not found or study.ablation is None:
        return None
    return {
        question: {
            "against": names[0], "not_run": [name for name in names if name not in found],
            "no_effect": {name: found[name].idle for name in names if name in found and found[name].idle},
            "table": [_json(line) for line in lines(names, found)],
            "pretrained_minus_scratch": [_json(gain) for gain in gains(study, names, found)],
            "runs": {name: _runs(found[name]) for name in names if name in found},
        }
        for question, names in study.ablation.questions.items()
    }  # fmt: skip


def _runs(one: Variant) -> dict[str, Any]:
    values = [
        {"arm": arm, "tested": place, **{metric: v.tolist() for metric, v in scores.items()}}
        for (arm, place), scores in one.scores.items()
    ]
    return {"seeds": list(one.seeds), "labelled": dict(one.labelled), "values": values}


def _json(row: Line | Gain) -> dict[str, Any]:
    values = {name: value for name, value in asdict(row).items() if name not in ("scores", "miou", "oa")}
    if isinstance(row, Line):
        values["scores"] = {metric: spread.json() for metric, spread in row.scores.items()}
    for name in ("miou", "oa"):
        spread = getattr(row, name)
        values[f"{name}_difference"] = spread and {
            **spread.json(), "interval95": spread.interval() if spread.n >= FEW else None,
        }  # fmt: skip
    return values
