"""The model card: what a model is for, what it was made from, how good it is by season and class, and where it fails.

Its parts are those of Mitchell et al. 2019 (doi 10.1145/3287560.3287596), its form the one that model hubs read. Every
number comes from what the steps have written; none is computed that the scores do not hold.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from stcln.spread import FEW, Spread
from stcln.storage import read_json
from stcln.study import Study
from stcln.workspace import Workspace

if TYPE_CHECKING:
    from stcln.model.checkpoint import Card

NAME = "MODEL_CARD.md"
SCARCE = 500  # labelled training pixels of a class below which the card warns
POOR = 0.5  # share of the season's mIoU below which a class is called poorly told
SIMULATED = "**All data are simulated.** No number here says anything about real fields."

Scores = Mapping[str, Any]
"""A cell's scores.json."""


def model_card(
    workspace: Workspace, card: "Card", scores: Scores, labelled: Mapping[str, int], record: Mapping[str, Any]
) -> str:
    """The card as Markdown; the same inputs give the same text.

    Args:
        workspace: The study's; the validation reports of its seasons are read.
        card: Of the model that is exported.
        scores: Of its cell, all seeds and seasons.
        labelled: Its labelled training pixels, by class.
        record: Its lineage.
    """
    study = workspace.study
    lines = [
        *_head(study, scores), "## Model details", *_details(study, card, scores), "## Intended use", *_use(card),
        "## Training data", *_data(workspace, scores, labelled), "## Evaluation", *_results(scores, study.agreed),
        "## Limits", *(f"- {limit}" for limit in _limits(card, scores, labelled)),
        "## Lineage", *_lineage(record), "## Licence", licence(study),
    ]  # fmt: skip
    text = "\n".join(line if line.startswith(("|", "- ")) else f"\n{line}\n" for line in lines)
    return re.sub("\n{3,}", "\n\n", text).strip() + "\n"


def licence(study: Study) -> str:
    """What is known of the licence of data and model, as a sentence."""
    if study.champion.licence:
        return f"{study.champion.licence}."
    if study.simulated:
        return "The data are simulated by the study itself; nobody else has a right in them."
    return (
        f"The study does not state one (`champion.licence`). The licence of the source, {study.dataset.source}, "
        "binds data and model."
    )


def _head(study: Study, scores: Scores) -> list[str]:
    front = {
        "license": "other", "license_name": study.champion.licence or "not-stated", "library_name": "onnx",
        "pipeline_tag": "image-segmentation", "tags": ["crop-mapping", "satellite-image-time-series", "stcln"],
    }  # fmt: skip
    title = f"# Crop map model of {study.title or study.name}"
    return [f"---\n{yaml.safe_dump(front, sort_keys=False)}---", title, *([SIMULATED] if scores["simulated"] else [])]


def _details(study: Study, card: "Card", scores: Scores) -> list[str]:
    start = "random weights" if scores["arm"] in study.cells.scratch else "the encoder pre-trained by masking"
    labels = study.arms[scores["arm"]].labels
    cut = ", ".join(f"{name} {value}" for name, value in card.length.items() if value) or "every date"
    return [
        f"- STCLN, size `{card.size}`, {scores['cost']['parameters']:,} parameters; ONNX, normalisation inside.",
        f"- Cell: season {card.season}, length `{card.length_name}` ({cut}), arm `{scores['arm']}`: it started "
        f"from {start} and saw {labels:.0%} of the labelled training pixels. Seed {card.seed}.",
        f"- In: reflectance x 10,000 of {', '.join(card.bands)}; days since {card.season_start}; valid pixels.",
        f"- Out: logits of {', '.join(card.classes)}.",
        f"- Method: {', '.join(f'{name} {value}' for name, value in sorted(card.method.items()))}.",
    ]


def _use(card: "Card") -> list[str]:
    return [
        "- Meant for: crop maps of the region and kind of season it was tested on, from series cut as above, to be "
        "checked by people who know the region.",
        "- Not meant for: decisions about a single parcel or farmer without a look at the ground; other regions, "
        "sensors or classes without a test of its own.",
        f"- Day 0 of a season is {card.season_start}; `python -m stcln predict` sees to bands, dates and clouds.",
    ]


def _data(workspace: Workspace, scores: Scores, labelled: Mapping[str, int]) -> list[str]:
    study = workspace.study
    encoder = ", ".join(study.pretrain.seasons) if scores["arm"] in study.cells.pretrained else "none"
    lines = [
        f"- Source: {study.dataset.source}, layout `{study.dataset.layout}`. Labels of season {scores['season']}; "
        f"unlabelled series in pre-training: {encoder}.",
        f"- Labelled training pixels: {', '.join(f'{name} {count:,}' for name, count in labelled.items())}.",
    ]
    for season in study.cells.season:
        found = read_json(workspace.season(season) / "validation.json")
        trial = "; a trial on some tiles" if found["trial"] else ""
        splits = ", ".join(f"{name} {count}" for name, count in found["splits"].items())
        lines.append(
            f"- Season {season}: {found['tiles']} tiles ({splits}), {found['rejected_tiles']} rejected{trial}."
        )
    return lines


def _results(scores: Scores, agreed: Sequence[str]) -> Iterator[str]:
    seeds = scores["seeds"]
    yield (
        f"Whole test tiles, which no part of training saw; mean ± standard deviation over seeds ({len(seeds)}). The "
        f"agreed seasons, whose mean mIoU decides what is served: {', '.join(agreed)}."
    )
    yield from _header("season", "mIoU", "OA", "macro-F1", "kappa")
    for season in seeds[0]["tests"]:
        name = f"{season}, trained on" if season == scores["season"] else season
        yield _row(name, *(spread(scores, season, metric).text() for metric in ("miou", "oa", "mf1", "kappa")))
    for season, test in seeds[0]["tests"].items():
        yield f"### By class, {season}"
        yield from _header("class", "IoU", "F1", "precision", "recall", "test pixels")
        for name, entry in test["per_class"].items():
            values = (by_class(scores, season, name, metric).text() for metric in ("iou", "f1", "precision", "recall"))
            yield _row(name, *values, f"{entry['support']:,}")


def _limits(card: "Card", scores: Scores, labelled: Mapping[str, int]) -> Iterator[str]:
    """What the scores say against the model, and what they cannot say."""
    real = [name for index, name in enumerate(card.classes) if index not in card.ignore]
    if scarce := [f"{name} ({labelled.get(name, 0):,})" for name in real if labelled.get(name, 0) < SCARCE]:
        yield f"Few labels in training, fewer than {SCARCE} pixels: {', '.join(scarce)}."
    tests, own = scores["seeds"][0]["tests"], scores["season"]
    for season, test in tests.items():
        mean = spread(scores, season, "miou").mean
        each = {name: by_class(scores, season, name, "iou").mean for name in test["per_class"]}
        if poor := [f"{name} (IoU {iou:.2f})" for name, iou in each.items() if iou < POOR * mean]:
            yield f"Poorly told in {season}, where the mean is {mean:.2f}: {', '.join(poor)}."
        if unseen := [name for name in real if name not in each]:
            yield f"Not tested in {season}, whose test tiles do not hold it: {', '.join(unseen)}."
        if season != own and own in tests and (fall := spread(scores, own, "miou").mean - mean) > 0:
            yield f"Worse in {season} than in {own}, which it was trained on, by {fall * 100:.1f} points of mIoU."
    if len(scores["seeds"]) < FEW:
        yield f"Seeds: {len(scores['seeds'])}; fewer than {FEW} give no interval, so that differences may be chance."
    yield f"Not tested: seasons other than {', '.join(tests)}, places other than the test tiles', other sensors."
    yield f"{card.selection}"
    yield "Confidence is not calibrated."


def _lineage(record: Mapping[str, Any]) -> list[str]:
    return [
        "- `python -m stcln lineage` walks on from here to the archive, and with `--rebuild` makes the model again.",
        *(f"- {path}: `{digest}`" for path, digest in sorted(record["inputs"].items())),
        f"- code of `{record['verb']}`: `{record['code']}`; first seed of the study: {record['seed']}",
    ]


def spread(scores: Scores, season: str, metric: str) -> Spread:
    """A metric of a season over the cell's seeds."""
    return Spread.of(np.array([seed["tests"][season][metric] for seed in scores["seeds"]], float))


def by_class(scores: Scores, season: str, name: str, metric: str) -> Spread:
    """A class's metric in a season over the cell's seeds."""
    return Spread.of(np.array([seed["tests"][season]["per_class"][name][metric] for seed in scores["seeds"]], float))


def _header(*names: str) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
