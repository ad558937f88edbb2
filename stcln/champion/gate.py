"""May a challenger replace the champion? Each thing that is looked at is a finding; what force overrules is said.

Both are scored on the same pixels: the challenger's cell by `evaluate`, on today's test tiles, and the champion anew on
these, as the very file that is served. The champion is one model, so it has one score a season. The challenger is
what its seeds show: it is better where the 95 % interval of their mean lies above the champion's score, which is the
rule by which the report calls a difference clear, and nothing else.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from stcln.champion.finding import Finding
from stcln.champion.history import Entry
from stcln.errors import BadInput
from stcln.evaluate import Model, score
from stcln.events import Reporter
from stcln.export import MODEL, PARITY, SCORES, measure
from stcln.lineage import NAME
from stcln.model.checkpoint import CARD, load_classifier
from stcln.model.served import read_onnx
from stcln.spread import FEW, Spread
from stcln.storage import read_json
from stcln.workspace import Workspace

SAME = (
    "splits", "dataset.layout", "dataset.tile", "dataset.buffer", "dataset.ignore", "method.lists", "method.excluded",
    "method.statistics",
)  # fmt: skip
"""Fields by which test tiles are chosen and scores are taken."""


def examine(workspace: Workspace, past: Sequence[Entry], version: str, reporter: Reporter) -> list[Finding]:
    """All findings about the challenger; it is compared only if it may be served at all."""
    scores = read_json(workspace.challenger / SCORES)
    found = [
        parity(workspace, scores["arm"]), _beats_a_constant(scores), *_as_tested(workspace),
        *_rolled_back(past, version),
    ]  # fmt: skip
    if past and all(finding.passed for finding in found if finding.firm):
        found += compare(workspace, scores, reporter)
    return found


def parity(workspace: Workspace, arm: str) -> Finding:
    """The ONNX file measured against the checkpoint that it was exported from, now."""
    model, card = workspace.challenger / MODEL, read_json(workspace.challenger / CARD)
    network, trained = load_classifier(
        workspace.finetuned(card["season"], card["length_name"], arm) / f"seed-{card['seed']}"
    )
    difference = measure(model, network, trained)
    told = f"largest difference of a logit {difference:.1e}, at most {PARITY:.0e} allowed"
    return Finding("ONNX equals torch", told, difference <= PARITY)


def _beats_a_constant(scores: Mapping[str, Any]) -> Finding:
    """On its own season; a check of evaluation lets arms from random weights or with few labels pass without this."""
    season = scores["season"]
    oa = fmean(seed["tests"][season]["oa"] for seed in scores["seeds"])
    constant = scores["seeds"][0]["tests"][season]["majority_oa"]
    told = f"overall accuracy {oa:.3f} in {season}, that of the commonest class everywhere {constant:.3f}"
    return Finding("better than a constant answer", told, oa > constant)


def _as_tested(workspace: Workspace) -> list[Finding]:
    if workspace.study.method.statistics == "training":
        return []
    told = "method.statistics: split normalises a test as no served model is; set it to training"
    return [Finding("scored as served", told, False, firm=False)]


def _rolled_back(past: Sequence[Entry], version: str) -> list[Finding]:
    """A version that a person took away does not come back by itself."""
    last = next((entry for entry in reversed(past) if version in (entry.version, entry.before)), None)
    if last is None or last.decision != "rollback" or last.version == version:
        return []
    told = f"{last.who} took this version away on {last.when}: {last.why}"
    return [Finding("not rolled back before", told, False, firm=False)]


def compare(workspace: Workspace, scores: Mapping[str, Any], reporter: Reporter) -> list[Finding]:
    """The challenger's cell and the champion on the agreed seasons; a refusal where they cannot be compared."""
    try:
        if changed := _changed(workspace):
            told = f"{', '.join(changed)}: not as when the champion was made; it may have trained on today's test tiles"
            return [Finding("same test", told, False, firm=False)]
        predict, card = read_onnx(workspace.champion / MODEL)
        model = Model(predict, card, {"labelled": {}})
        tested = score(model, workspace, workspace.study.agreed, reporter)
    except BadInput as error:
        return [Finding("same test", f"the champion cannot be scored today: {error}", False, firm=False)]
    served = read_json(workspace.challenger / CARD)["seed"]
    return judge(scores, served, {season: found["miou"] for season, found in tested.items()})


def _changed(workspace: Workspace) -> list[str]:
    """The fields of `SAME` that the champion's lineage and the study have in different values."""
    was, now = read_json(workspace.champion / NAME)["params"], workspace.study.model_dump(mode="json")
    return [field for field in SAME if _at(was, field) != _at(now, field)]


def _at(values: Mapping[str, Any], field: str) -> Any:
    section, _, name = field.partition(".")
    return values[section][name] if name else values[section]


def judge(scores: Mapping[str, Any], served: int, champion: Mapping[str, float]) -> list[Finding]:
    """Whether the challenger is better, its spread over seeds considered.

    Args:
        scores: Of the challenger's cell.
        served: The seed that would be served.
        champion: The champion's mIoU by agreed season, on the same pixels.
    """
    gains = {
        seed["seed"]: {season: seed["tests"][season]["miou"] - was for season, was in champion.items()}
        for seed in scores["seeds"]
    }
    by_season = {season: Spread.of(np.array([gain[season] for gain in gains.values()])) for season in champion}
    mean = Spread.of(np.array([fmean(gain.values()) for gain in gains.values()]))
    own = fmean(gains[served].values())
    known = fmean(champion.values())
    told = f"mIoU {known + mean.mean:.3f}, the champion's {known:.3f}; {_points(mean)}"
    found = [
        Finding("better on the agreed seasons", told + _too_few(mean), mean.interval()[0] > 0, firm=False),
        Finding("the served seed is better", f"{own * 100:+.1f} points", own > 0, firm=False),
    ]
    for season, gain in by_season.items():
        told = f"mIoU {champion[season] + gain.mean:.3f}, the champion's {champion[season]:.3f}; {_points(gain)}"
        found.append(Finding(f"not clearly worse in {season}", told, gain.interval()[1] >= 0, firm=False))
    return found


def _points(gain: Spread) -> str:
    return f"{gain.mean * 100:+.1f} points" + (f" ({gain.bounds()}, {gain.n} seeds)" if gain.bounds() else "")


def _too_few(gain: Spread) -> str:
    if gain.n >= FEW:
        return ""
    return f"; {gain.n} seeds give no spread to judge by: set finetune.seeds to {FEW} or more"
