"""Export: the best cell's best model as one ONNX file that equals torch, with its cards, scores, legend and lineage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from stcln import lineage, model_card, palette
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.model.checkpoint import CARD, Card, load_classifier
from stcln.model.network import STCLN
from stcln.model.served import Served, example, read_onnx, write_onnx
from stcln.stages import lineage_of, write_lineage
from stcln.storage import read_json, whole_directory, write_json, write_text
from stcln.workspace import Workspace

MODEL, SCORES = "model.onnx", "scores.json"
PARITY = 1e-4  # largest difference of a logit between onnxruntime and torch
SELECTION = (
    "The study's cell of the highest mIoU on the test tiles, and its seed of the highest validation score: chosen on "
    "test scores, so that miou_cell, miou and oa are optimistic. They are means over the agreed seasons."
)
SHAPES = ((1, 5, 16, 16), (2, 12, 9, 13), (1, 30, 24, 24), (3, 1, 4, 4))  # B T H W at which it is measured


@dataclass(frozen=True)
class Challenger:
    """The cell with the highest mIoU on the agreed seasons, and its seed with the highest validation score."""

    season: str
    length: str
    arm: str
    seed: int
    metrics: Mapping[str, float]
    """`miou_cell`: mean over the cell's seeds and the agreed seasons. `miou`, `oa`: the seed's own, mean over these
    seasons. `validation`: the seed's."""
    scores: Mapping[str, Any]
    """The cell's scores.json."""


def export(workspace: Workspace, reporter: Reporter) -> dict[str, Value]:
    """Write `models/challenger/`: model.onnx, its cards, its cell's scores.json, legend.json, lineage.json.

    Raises:
        BadInput: No cell has been evaluated, its model is missing or broken, or ONNX and torch disagree.
    """
    best = choose(workspace)
    source = workspace.finetuned(best.season, best.length, best.arm) / f"seed-{best.seed}"
    network, card = load_classifier(source)
    card = card.model_copy(update={"metrics": {**card.metrics, **best.metrics}, "selection": SELECTION})
    reporter.note(f"challenger {best.season} {best.length} {best.arm}, seed {best.seed}", dict(best.metrics))
    with whole_directory(workspace.challenger) as directory:
        model, record = directory / MODEL, lineage_of(workspace, "export")
        write_onnx(model, network, card, {lineage.TAG: json.dumps(record, sort_keys=True)})
        difference = measure(model, network, card)
        if not difference <= PARITY:
            raise BadInput(
                source, f"ONNX and torch differ by {difference:.1e}, more than {PARITY:.0e}", "report it with the model"
            )
        write_json(directory / CARD, card.model_dump(mode="json"))
        write_json(directory / "legend.json", legend(card))
        write_json(directory / SCORES, best.scores)
        labelled = read_json(source / "history.json")["labelled"]
        write_text(directory / model_card.NAME, model_card.model_card(workspace, card, best.scores, labelled, record))
        write_lineage(directory, workspace, "export")
    return {
        "cell": f"{best.season}-{best.length}-{best.arm}",
        "seed": best.seed,
        **best.metrics,
        "onnx_difference": difference,
        "megabytes": (workspace.challenger / MODEL).stat().st_size / 1e6,
        "simulated": int(best.scores["simulated"]),
    }


def choose(workspace: Workspace) -> Challenger:
    """The best of the study's evaluated cells; of equals the first in the study's order.

    Raises:
        BadInput: None of the cells has been evaluated.
    """
    cells = workspace.study.cells
    found = []
    for season, length, arm in product(cells.season, cells.length, cells.arm):
        path = workspace.cell(season, length, arm) / SCORES
        if path.exists():
            found.append(_challenger_of((season, length, arm), read_json(path), workspace.study.agreed, path))
    if not found:
        raise BadInput(workspace.root / "reports/cells", "no cell has been evaluated", "run `python -m stcln evaluate`")
    return max(found, key=lambda challenger: challenger.metrics["miou_cell"])


def _challenger_of(cell: tuple[str, str, str], scores: dict[str, Any], agreed: Sequence[str], path: Path) -> Challenger:
    try:
        mean = fmean(run["tests"][season]["miou"] for run in scores["seeds"] for season in agreed)
        best = max(scores["seeds"], key=lambda run: float(run["validation"]))
        own = {name: fmean(best["tests"][season][name] for season in agreed) for name in ("miou", "oa")}
        metrics = {"miou_cell": mean, **own, "validation": float(best["validation"])}
        return Challenger(*cell, best["seed"], metrics, scores)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(path, f"not the scores of a cell: {error!r}", "run `python -m stcln evaluate` again") from None


def measure(model: Path, network: STCLN, card: Card) -> float:
    """Largest difference of a logit between onnxruntime and torch, on simulated series with clouds and padding."""
    predict, _ = read_onnx(model)
    served = Served(network, card).eval()
    largest = 0.0
    for seed, (B, T, H, W) in enumerate(SHAPES):
        inputs = example(B, T, len(card.bands), (H, W), seed)
        with torch.inference_mode():
            expected = served(*inputs).numpy()
        found = predict(inputs[0].numpy(), inputs[1].numpy(), inputs[2].numpy())
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def legend(card: Card) -> list[dict[str, Any]]:
    """Index, name and colour of every class, and whether it is scored."""
    colours = palette.of_classes(len(card.classes), card.ignore)
    return [
        {"index": index, "name": name, "colour": colour, "scored": index not in card.ignore}
        for index, (name, colour) in enumerate(zip(card.classes, colours, strict=True))
    ]
