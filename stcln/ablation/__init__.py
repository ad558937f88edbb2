"""Ablation: variants of a study, each pre-trained, fine-tuned and tested over several seeds, a few fields changed."""

from itertools import product
from typing import Any

import numpy as np

from stcln.ablation.bench import Bench
from stcln.ablation.idle import why_idle
from stcln.events import Reporter, Value
from stcln.stages import write_lineage
from stcln.storage import read_json, whole_directory, write_json
from stcln.workspace import Workspace

KEPT = ("oa", "miou", "mf1", "kappa", "majority_oa", "trained_share")  # of a test


def ablate(workspace: Workspace, variant: str, reporter: Reporter) -> dict[str, Value]:
    """Run a variant into `reports/ablation/<variant>/scores.json`, a whole run a seed.

    Run i is the variant's study with seed `seed + i`, one fine-tuning a cell: another encoder, other weights, labels
    and order. Its steps are made in `.stcln/ablation`, where an equal one of another variant is taken over. A variant
    that can change nothing on these data is not run; its scores.json says why.

    Args:
        workspace: The study's.
        variant: One of `ablation.variants`.
        reporter: Is told every run, and what its steps tell.

    Raises:
        BadInput: What pre-training, fine-tuning or evaluation refuses.
    """
    ablation = workspace.study.ablation
    assert ablation is not None  # `stages.check` has found the variant in it
    idle, found = why_idle(workspace, variant, reporter), []
    for index in range(0 if idle else ablation.seeds):
        bench = Bench.of(workspace, variant, index, reporter)
        found.append(_run(bench, [{"season": s, "length": ablation.length} for s in ablation.season]))
        reporter.progress("run", index + 1, ablation.seeds, _means([found[-1]]))
    with whole_directory(workspace.ablation(variant)) as part:
        write_json(part / "scores.json", {"variant": variant, "idle": idle, "runs": found})
        write_lineage(part, workspace, "ablate", variant=variant)
    return {"idle": idle} if idle else _means(found)


def _run(bench: Bench, places: list[dict[str, str]]) -> dict[str, Any]:
    """One seed of a variant: how its encoder learned, and scores by cell."""
    encoder, cells = None, []
    if bench.study.cells.pretrained:
        encoder = _learned(read_json(bench.encoder() / "history.json"))
    for place, arm in product(places, bench.study.cells.arm):
        cell = {**place, "arm": arm}
        history = read_json(bench.models(**cell) / f"seed-{bench.study.seed}/history.json")
        scores = read_json(bench.scores(**cell) / "scores.json")
        cells.append({"season": place["season"], "arm": arm, **_kept(scores, history)})
    return {"seed": bench.study.seed, "encoder": encoder, "cells": cells}


def _kept(scores: dict[str, Any], history: dict[str, Any]) -> dict[str, Any]:
    """What the report needs of a cell of one seed."""
    (run,) = scores["seeds"]
    tests = {season: {name: test[name] for name in KEPT} for season, test in run["tests"].items()}
    labelled = sum(history["labelled"].values())
    return {"best_epoch": run["best_epoch"], "validation": run["validation"], "labelled": labelled, "tests": tests}


def _learned(history: dict[str, Any]) -> dict[str, Any]:
    """Of an encoder: its best reconstruction loss, and of which epoch."""
    best = history["best_epoch"]
    return {"validation": history["epochs"][best - 1]["validation"], "best_epoch": best}


def _means(found: list[dict[str, Any]]) -> dict[str, Value]:
    """Mean mIoU by arm over runs and cells: on the own season plainly, on the others with `_other`."""
    scores: dict[str, list[float]] = {}
    for run in found:
        for cell in run["cells"]:
            for season, test in cell["tests"].items():
                name = f"miou_{cell['arm']}" + "_other" * (season != cell["season"])
                scores.setdefault(name, []).append(test["miou"])
    return {name: float(np.mean(values)) for name, values in scores.items()}
