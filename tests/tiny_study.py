"""A study of two small synthetic seasons that trains in a second."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stcln.data.store import Header, write
from stcln.data.tile import Tile
from stcln.workspace import Workspace

CLASSES = ("unknown", "wheat", "maize", "meadow")
STUDY: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "dataset": {"source": "simulated", "layout": "cube", "classes": list(CLASSES), "ignore": ["unknown"]},
    "splits": {
        "pretrain": {"take": ["train"]},
        "train": {"take": ["train"]},
        "validation": {"take": ["validation"]},
        "test": {"take": ["test"]},
    },
    "cells": {
        "season": ["2016", "2017"],
        "length": ["d6", "full"],
        "scratch": ["scratch"],
        "pretrained": ["pretrained", "pretrained-10pct"],
    },
    "lengths": {"d6": {"dates": 6}, "full": {}},
    "arms": {"scratch": {}, "pretrained": {}, "pretrained-10pct": {"labels": 0.1}},
    "model": {"size": "tiny"},
    "pretrain": {"seasons": ["2016"], "length": "d6", "epochs": 2, "batch": 2, "window": 8, "learning_rate": 1e-3},
    "finetune": {"seeds": 2, "epochs": 3, "batch": 2, "window": 8, "learning_rate": 3e-3},
    "compute": {"precision": "float32", "threads": 1},
}  # fmt: skip
BANDS = ("B02", "B03", "B04", "B08")
PEAKS = {"2016": (0, 130, 220, 170), "2017": (0, 140, 230, 165)}  # day of the greenest state by class; 0: never green


def synthetic_tile(number: int, season: str, size: int = 8, dates: int = 8) -> Tile:
    """A tile of three crops and some unknown pixels whose NDVI peaks on a day of the class; a few cloudy dates."""
    rng = np.random.default_rng((number, int(season)))
    labels = np.repeat(np.repeat(np.random.default_rng(number).integers(1, 4, (2, 2)), size // 2, 0), size // 2, 1)
    labels[0, :2] = 0
    days = np.sort(rng.choice(np.arange(60, 300), dates, replace=False))
    green = np.exp(-(((days[:, None, None] - np.array(PEAKS[season])[labels]) / 45.0) ** 2))
    red, near = 1500 - 1100 * green, 2200 + 2300 * green
    reflectance = np.stack([red * 0.8, red * 0.9, red, near], 1) + rng.normal(0, 60, (dates, 4, size, size))
    valid = np.ones((dates, size, size), bool)
    valid[rng.integers(dates), : size // 2] = False
    reflectance[~np.broadcast_to(valid[:, None], reflectance.shape)] = 9000
    return Tile(
        id=f"t{number:02}", split=("train", "train", "train", "validation", "test")[number % 5],
        reflectance=reflectance.astype(np.int16), dates=np.datetime64(f"{season}-01-01", "D") + days, valid=valid,
        labels=labels.astype(np.uint8), crs="EPSG:32632", transform=(10.0, 0.0, 1000.0 * number, 0.0, -10.0, 5e6),
    )  # fmt: skip


def write_season(path: Path, season: str, tiles: Sequence[Tile]) -> None:
    """A season store of synthetic tiles."""
    header = Header(
        season=season, start=date(int(season), 1, 1), layout="cube", bands=BANDS, classes=CLASSES, ignore=(0,),
        simulated=True,
    )  # fmt: skip
    write(path, tiles, header, lambda tile: tile.split == "train")


def restudy(workspace: Workspace, **sections: Any) -> Workspace:
    """The workspace with sections of its study changed: `restudy(w, finetune={"folds": 3})`."""
    study = yaml.safe_load((workspace.root / "params.yaml").read_text())
    for name, change in sections.items():
        study[name] = {**study.get(name, {}), **change} if isinstance(change, dict) else change
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(study))
    return Workspace(workspace.root)
