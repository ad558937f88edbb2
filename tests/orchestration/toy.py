"""Stands in for `python -m stcln` in a toy workspace: every verb writes, in a moment, files of the promised form.

What it writes depends only on params.yaml and its inputs. Each run leaves a line in runs.log. It lasts until the file
that TOY_WAIT names is there.
"""

import argparse
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import yaml

parser = argparse.ArgumentParser()
parser.add_argument("verb")
for key in ("season", "length", "arm", "variant"):
    parser.add_argument(f"--{key}")
ask = parser.parse_args()
params = yaml.safe_load(Path("params.yaml").read_text())
seasons = [str(season) for season in params["cells"]["season"]]


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def history(seed: str) -> dict[str, object]:
    toy = params.get("toy_loss", 0.5)
    epochs = [{"epoch": n, "loss": toy / n, "validation": 0.1 * n} for n in (1, 2, 3)]
    return {"epochs": epochs, "best_epoch": 3, "masked_pixels": 7, "seed": seed, "multiply_adds": 5}


def digest(path: Path) -> str:
    return hashlib.md5(b"".join(p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file())).hexdigest()


def scores() -> dict[str, object]:
    arm = params["arms"][ask.arm]
    oa = arm.get("learning_rate", 0.8)
    test = {
        "oa": oa,
        "miou": oa / 2,
        "mf1": oa,
        "kappa": oa,
        "majority_oa": 0.4,
        "confusion": [[0, 0, 0], [0, 5, 1], [0, 2, 4]],
    }
    names = ["unknown", "wheat", "maize"]
    return {
        "season": ask.season, "length": ask.length, "arm": ask.arm, "simulated": True, "classes": names,
        "cost": {
            "parameters": 3, "km2": 0.1, "map_multiply_adds_per_km2": 8, "tile_multiply_adds_per_km2": 2
        },
        "seeds": [{"seed": 1, "best_epoch": 3, "validation": 0.3, "tests": dict.fromkeys(seasons, test)}],
    }  # fmt: skip


while (go := os.environ.get("TOY_WAIT")) and not Path(go).exists():
    time.sleep(0.02)
cell = f"{ask.season}/{ask.length}/{ask.arm}"
if ask.verb == "fetch":
    put(Path("data/raw/archive.txt"), {season: digest(Path(f"template/{season}.zarr")) for season in seasons})
elif ask.verb == "prepare":
    shutil.rmtree(f"data/seasons/{ask.season}.zarr", ignore_errors=True)
    shutil.copytree(f"template/{ask.season}.zarr", f"data/seasons/{ask.season}.zarr")
elif ask.verb == "pretrain":
    put(Path("models/pretrained/history.json"), history("0"))
    put(Path("models/pretrained/card.json"), {"bands": ["B04", "B03", "B08"]})
    shutil.copyfile("template/sample.npz", "models/pretrained/sample.npz")
elif ask.verb == "drift":
    asked = Path("template/decision.txt")
    decision = asked.read_text() if asked.exists() else "reuse"
    against = [season for season in seasons if season != ask.season]
    put(
        Path(f"reports/drift/{ask.season}/drift.json"),
        {"season": ask.season, "against": against, "simulated": True, "ndvi": {"distance": 0.01}, "classes": None,
         "decision": decision, "reason": f"{decision}: a toy."},
    )  # fmt: skip
elif ask.verb == "finetune":
    put(Path(f"models/finetuned/{cell}/seed-1/history.json"), history("1"))
    put(Path(f"models/finetuned/{cell}/weights.txt"), json.dumps(params["arms"][ask.arm]))
elif ask.verb == "evaluate":
    put(Path(f"reports/cells/{cell}/scores.json"), scores())
    shutil.copyfile("template/maps.npz", f"reports/cells/{cell}/maps.npz")
elif ask.verb == "ablate":
    test = {"oa": 0.8, "miou": 0.4, "mf1": 0.5, "kappa": 0.6, "majority_oa": 0.4}
    cells = [{"season": seasons[0], "arm": "scratch", "tests": dict.fromkeys(seasons, test)}]
    put(Path(f"reports/ablation/{ask.variant}/scores.json"), {"idle": "", "runs": [{"seed": 1, "cells": cells}]})
elif ask.verb == "report":
    put(Path("reports/study/report.md"), f"| table |\n|---|\n| {digest(Path('reports/cells'))} |\n")
    put(Path("reports/study/index.html"), "<p>report</p>")
    put(Path("reports/study/report.json"), {"finding": "A toy.", "seasons": {}})
    put(Path("reports/study/figure3.png"), "not a picture")
elif ask.verb == "export":
    cells = [json.loads(path.read_text()) for path in sorted(Path("reports/cells").rglob("scores.json"))]
    best = max(cells, key=lambda cell: cell["seeds"][0]["tests"][seasons[0]]["miou"])
    metrics = {"miou": best["seeds"][0]["tests"][seasons[0]]["miou"]}
    home = Path("models/challenger")
    put(home / "card.json", {"season": best["season"], "length_name": "full", "seed": 1, "metrics": metrics})
    put(home / "scores.json", best)
    put(home / "MODEL_CARD.md", "# A toy")
    put(home / "model.onnx", digest(Path("reports/cells")))
keys = [value for value in (ask.season, ask.length, ask.arm, ask.variant) if value]
with Path("runs.log").open("a") as log:
    log.write(" ".join([ask.verb, *keys]) + "\n")
