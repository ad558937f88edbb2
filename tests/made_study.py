"""A scored study with made-up numbers in every file the report reads, for tests; no network is trained."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stcln import storage
from stcln.data import store
from stcln.data.prepare.validation import RULES
from stcln.data.readers.reading import MERGED
from stcln.data.tile import Tile
from stcln.workspace import Workspace

CROPS = ("unknown", "meadow", "winter wheat", "winter barley", "maize", "sugar beet", "potato", "rape", "spring barley")
BANDS = ("B04", "B03", "B02", "B08")
SIDE, DATES = 12, 9


def make(
    root: Path, *, seasons: tuple[str, ...] = ("2018", "2019"), lengths: tuple[str, ...] = ("june", "full"),
    scratch: tuple[str, ...] = ("scratch",), pretrained: tuple[str, ...] = ("pretrained",), seeds: int = 3,
    classes: tuple[str, ...] = CROPS, source: str = "simulated", gain: float = 0.05, layout: str = "cube",
    apart: float = 0, trained: float = 1.0,
) -> Workspace:  # fmt: skip
    """Write a workspace whose cells have scores; pretrained arms lie `gain` mIoU above scratch ones.

    Seasons lie `apart` metres apart, on tiles of other ids if at all. On another season a share `trained` of the tested
    pixels is of classes with a training label.
    """
    rule = {"june": {"until": "06-30"}, "full": {}}
    study = {
        "name": "made", "title": "A region in made-up numbers",
        "dataset": {"source": source, "layout": layout, "ignore": ["unknown"]},
        "splits": {role: {"take": [role]} for role in ("pretrain", "train", "validation", "test")},
        "cells": {"season": list(seasons), "length": list(lengths), "scratch": list(scratch),
                  "pretrained": list(pretrained)},
        "lengths": {name: rule.get(name, {"dates": at + 2}) for at, name in enumerate(lengths)},
        "arms": {name: {"labels": 0.05} for name in (*scratch, *pretrained)},
        "pretrain": {"seasons": list(seasons), "length": lengths[-1]}, "finetune": {"seeds": seeds},
        "method": {"positions": "index"},
    }  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    place, rng = Workspace(root), np.random.default_rng(7)
    place.raw.mkdir(parents=True)
    for at, season in enumerate(seasons):
        _season(place, season, classes, rng, apart * at)
    if pretrained:
        _pretrained(place, rng)
    for season in seasons:
        for length in lengths:
            for arm in (*scratch, *pretrained):
                _cell(place, (season, length, arm), seasons, classes, rng, gain * (arm in pretrained), seeds, trained)
    return place


def _season(place: Workspace, season: str, classes: tuple[str, ...], rng: np.random.Generator, east: float) -> None:
    path, dates = place.season(season), np.datetime64(f"{season}-02-10") + np.arange(DATES) * 30
    header = store.Header(
        season=season, start=date(int(season), 1, 1), layout=place.study.dataset.layout, bands=BANDS, classes=classes,
        ignore=(0,), simulated=place.study.simulated,
    )  # fmt: skip
    tiles = [_tile(number, dates, len(classes), rng, east) for number in range(6)]
    store.write(path, tiles, header, lambda tile: True)
    counts = {name: int(rng.integers(50, 900)) for name in classes}
    months = [str(month) for month in dates.astype("datetime64[M]")]
    splits = ("train", "validation", "test")
    validation = {
        "tiles": 6, "listed_ids": 8, "rejected_tiles": 1, "absent_ids": 1, "images": 54, "invalid_share": 0.231,
        "invalid_share_per_month": {month: round(0.1 + at / 20, 4) for at, month in enumerate(months)},
        "rejected": {"9999": "record corrupted"}, "absent": {"listed, not in the archive": ["1234"]},
        "unlisted": {"in the archive, in no list": ["5678"]},
        "findings": {"values above 32,767, clipped": {"tiles": 1, "events": 7, "by_tile": {"t1": 7}},
                     MERGED: {"tiles": 2, "events": 3, "by_tile": {"t1": 1, "t2": 2}, "rule": RULES[MERGED]}},
        "splits": dict.fromkeys(splits, 2), "dates_per_month": dict.fromkeys(months, 6),
        "pixels_per_class": dict.fromkeys(splits, counts), "trial": None, "radar": {},
        "ndvi": {name: {f"{m:02}": 0.5 + 0.4 * float(np.sin(m / 3 + k)) for m in range(2, 11)}
                 for k, name in enumerate(classes)},
        "leaves": {"pixels": 900, "reflectance": {"B04": 410.0, "B03": 620.5, "B02": 300.0, "B08": 4012.0}},
        "reflectance_range": {band: [120, 9000] for band in BANDS},
        "duplicates": {"same_ground": [], "same_images": []}, "marks": {"bands": [], "values": []},
        "distance": {role: {"metres": 1240.0, "tiles": ["t4", "t0"], "adjacent": 0} for role in splits[:2]},
    }  # fmt: skip
    storage.write_json(path / "validation.json", validation)
    _lineage(path, f"prepare@{season}", {f"data/raw/{season}.nc": "a" * 32}, "prepare")


def _tile(number: int, dates: np.ndarray, classes: int, rng: np.random.Generator, east: float = 0) -> Tile:
    labels = np.kron(rng.integers(0, classes, (3, 3)), np.ones((SIDE // 3, SIDE // 3))).astype(np.uint8)
    season = np.sin(np.arange(DATES)[:, None, None] / 3 + labels / 2)
    images = np.stack([900 - 500 * season, 800 + 100 * season, 500 - 100 * season, 3000 + 1500 * season], 1)
    noisy = (images + rng.normal(0, 60, images.shape)).clip(1, 9000).astype(np.int16)
    valid = rng.random((DATES, SIDE, SIDE)) > 0.1
    return Tile(
        f"t{number}" + f"e{east:.0f}" * (east > 0),
        "train",
        noisy,
        dates,
        valid,
        labels,
        "EPSG:32631",
        (10, 0, 500_000 + east + 120 * number, 0, -10, 5_600_000),
    )


def _pretrained(place: Workspace, rng: np.random.Generator) -> None:
    path = place.pretrained
    epochs = [{"epoch": e, "loss": 1 / e + 0.1, "validation": 1.1 / e + 0.12} for e in range(1, 21)]
    storage.write_json(path / "history.json", {"epochs": epochs, "best_epoch": 20, "masked_pixels": 12345,
                                             "multiply_adds": 7 * 10**13})  # fmt: skip
    tile = _tile(3, np.datetime64("2018-02-10") + np.arange(DATES) * 30, 9, rng)
    images = (tile.reflectance / 10_000).astype(np.float32)
    hidden = (rng.random(tile.valid.shape) < 0.4) & (np.arange(DATES) % 3 > 0)[:, None, None]
    rebuilt = images + rng.normal(0, 0.01, images.shape).astype(np.float32)
    np.savez_compressed(
        path / "sample.npz", images=images, reconstruction=rebuilt, hidden=hidden, valid=tile.valid,
        dates=np.arange(DATES) * 30 + 40, tile="t3",
    )  # fmt: skip
    _lineage(path, "pretrain", {}, "pretrain")


def _cell(
    place: Workspace, key: tuple[str, str, str], seasons: tuple[str, ...], classes: tuple[str, ...],
    rng: np.random.Generator,
    gain: float, seeds: int, trained: float,
) -> None:  # fmt: skip
    season, length, arm = key
    model, cell = place.finetuned(*key), place.cell(*key)
    runs, arrays = [], {}
    for seed in range(3407, 3407 + seeds):
        epochs = [
            {"epoch": e, "loss": 2 / e + rng.random() * 0.1, "validation": 0.8 - 0.5 / e + gain} for e in range(1, 21)
        ]
        history = {"epochs": epochs, "best_epoch": 18, "labelled": {"maize": 300 + seed % 7}, "validation_pixels": 2400,
                   "multiply_adds": 3 * 10**12 + seed}  # fmt: skip
        storage.write_json(model / f"seed-{seed}/history.json", history)
        level = 0.45 + gain + 0.1 * (length == "full") + rng.normal(0, 0.01)
        tests = {
            name: _scores(classes, level - 0.08 * (name != season), rng, 1.0 if name == season else trained)
            for name in seasons
        }
        runs.append({"seed": seed, "best_epoch": 18, "validation": 0.77, "tests": tests})
    for tested in seasons:
        for number in range(2):
            tile = _tile(number, np.datetime64("2018-02-10") + np.arange(DATES) * 30, len(classes), rng)
            wrong = np.where(
                rng.random(tile.labels.shape) < 0.15, rng.integers(1, len(classes), tile.labels.shape), tile.labels
            )
            at = f"{tested}/t{number}"
            arrays |= {f"{at}/truth": tile.labels, f"{at}/prediction": wrong.astype(np.uint8)}
            arrays |= {f"{at}/confidence": rng.integers(30, 100, tile.labels.shape).astype(np.uint8)}
            arrays |= {f"{at}/rgb": (tile.reflectance[4, :3].transpose(1, 2, 0) / 8).clip(0, 255).astype(np.uint8)}
    selection = "overall accuracy on the validation tiles, all of whose labels are used"
    scores = {"season": season, "length": length, "arm": arm, "simulated": place.study.simulated,
              "classes": list(classes),
              "cost": {"parameters": 61_234, "km2": 0.05, "map_multiply_adds_per_km2": 4 * 10**12,
                       "tile_multiply_adds_per_km2": 10**12},
              "selection": selection, "seeds": runs}  # fmt: skip
    storage.write_json(cell / "scores.json", scores)
    np.savez_compressed(cell / "maps.npz", **arrays)
    _lineage(
        model,
        f"finetune@{'-'.join(key)}",
        {f"data/seasons/{season}.zarr": "b" * 36, "models/pretrained": "c" * 36},
        "finetune",
    )
    _lineage(
        cell,
        f"evaluate@{'-'.join(key)}",
        {f"models/finetuned/{'/'.join(key)}": "d" * 36, "data/seasons": "e" * 36},
        "evaluate",
    )


def _scores(classes: tuple[str, ...], level: float, rng: np.random.Generator, trained: float) -> dict[str, Any]:
    K = len(classes)
    confusion = rng.integers(0, 40, (K, K)) + np.eye(K, dtype=int) * 900
    confusion[0] = 0
    per_class = {
        name: dict.fromkeys(("precision", "recall", "f1", "iou"), float(np.clip(level + rng.normal(0, 0.1), 0, 1)))
        | {"support": 900}
        for name in classes[1:]
    }  # fmt: skip
    return {
        "oa": level + 0.25, "miou": level, "mf1": level + 0.1, "kappa": level + 0.2, "majority_oa": 0.31,
        "trained_share": trained,
        "per_class": per_class,
        "parity": {"oa": level + 0.26, "miou": level + 0.02, "mf1": level + 0.12}, "confusion": confusion.tolist(),
    }  # fmt: skip


def _lineage(directory: Path, stage: str, inputs: dict[str, str], verb: str) -> None:
    outputs = {path.name: storage.digest(path) for path in directory.iterdir()}
    record = {
        "stage": stage,
        "verb": verb,
        "params": {},
        "inputs": inputs,
        "code": "f" * 32,
        "seed": 3407,
        "outputs": outputs,
    }
    storage.write_json(directory / "lineage.json", record)
