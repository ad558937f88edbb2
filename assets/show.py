"""What the UI shows of every output: numbers that plot over time, curves, tables, pictures, where it lies.

Every function reads one stage's output as its formats promise, after the stage has run or its version has been
restored. All numbers are floats, so that the UI plots them from one materialisation to the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import dagster as dg
import numpy as np

from assets import pictures
from assets.stage import numbers
from stcln.data.store import SeasonStore
from stcln.storage import read_json
from stcln.workspace import Workspace

METRICS = ("oa", "miou", "mf1", "kappa")
MIB = 1 << 20
Shown = dict[str, Any]


def archive(workspace: Workspace) -> Shown:
    """Of data/raw: how much there is, and where it came from."""
    return {**_lies(workspace.raw), "source": workspace.study.dataset.source, "simulated": workspace.study.simulated}


def store(workspace: Workspace, season: str) -> Shown:
    """Of a season store: its counts, what was rejected, classes, dates, and its first tile beside its labels."""
    path = workspace.season(season)
    validation, opened = read_json(path / "validation.json"), SeasonStore.open(path)
    return {
        **_lies(path),
        **_plain(validation),
        "simulated": opened.simulated,
        "bands": ", ".join(opened.bands),
        "crs": opened.crs,
        "validation": dg.MetadataValue.json(validation),
        "first_tile": _first_tile(opened),
    }


def encoder(workspace: Workspace) -> Shown:
    """Of the pre-trained encoder: its loss by epoch and what was hidden."""
    history = read_json(workspace.pretrained / "history.json")
    return {**_lies(workspace.pretrained), **_plain(history), **_learning({"encoder": history})}


def models(directory: Path) -> Shown:
    """Of a cell's models: loss and validation score by epoch, a line a seed."""
    histories = {path.parent.name: read_json(path) for path in sorted(directory.glob("seed-*/history.json"))}
    return {**_lies(directory), "seeds": float(len(histories)), **_learning(histories)}


def scores(directory: Path) -> Shown:
    """Of a cell: mean scores on its own season and over the others, all of them as a table, confusion and a map."""
    found = read_json(directory / "scores.json")
    own, season = pooled(found, [found["season"]]), str(found["season"])
    others = pooled(found, [name for name in tested(found) if name != season])
    shown: Shown = {f"own_{name}": value for name, value in own.items()}
    shown |= {f"other_{name}": value for name, value in others.items()}
    matrix = np.sum([seed["tests"][season]["confusion"] for seed in found["seeds"]], axis=0).tolist()
    return {
        **_lies(directory),
        **shown,
        "simulated": found["simulated"],
        "scores": _table(_rows(found)),
        "confusion": pictures.confusion(matrix, found["classes"]),
        **_maps(directory / "maps.npz", len(found["classes"])),
    }


def report(workspace: Workspace) -> Shown:
    """Of the report: its tables as Markdown, and where its page lies."""
    page = workspace.report / "index.html"
    return {
        **_lies(workspace.report),
        "page": dg.MetadataValue.url(page.resolve().as_uri()),
        "simulated": workspace.study.simulated,
        "table": dg.MetadataValue.md((workspace.report / "report.md").read_text()),
    }


def champion(workspace: Workspace) -> Shown:
    """Of the champion: its card, and its cell's mean mIoU over seeds and all seasons tested."""
    card, study = read_json(workspace.champion / "card.json"), workspace.study
    return {
        **_lies(workspace.champion),
        **numbers(card["metrics"]),
        "season": card["season"],
        "length": card["length_name"],
        "study": study.name,
        "seasons": ", ".join(study.cells.season),
        "simulated": study.simulated,
        "card": dg.MetadataValue.json(card),
    }


def tested(found: Mapping[str, Any]) -> list[str]:
    """The seasons that a scores.json tests."""
    return sorted({season for seed in found["seeds"] for season in seed["tests"]})


def pooled(found: Mapping[str, Any], seasons: Sequence[str]) -> dict[str, float]:
    """Each metric's mean over seeds and the named seasons; empty without a season."""
    tests = [seed["tests"][str(season)] for seed in found["seeds"] for season in seasons]
    return {name: fmean(test[name] for test in tests) for name in (*METRICS, "majority_oa")} if tests else {}


def _lies(directory: Path) -> Shown:
    files = [path for path in directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return {"path": dg.MetadataValue.path(directory), "files": float(len(files)), "MiB": round(size / MIB, 3)}


def _plain(values: Mapping[str, Any]) -> Shown:
    """The numbers and short texts of a JSON object."""
    return numbers({key: value for key, value in values.items() if isinstance(value, float | int | str)})


def _learning(histories: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Last loss, best score, and both as curves, a line a run."""
    losses = {name: [float(epoch["loss"]) for epoch in h["epochs"]] for name, h in histories.items()}
    scores = {
        name: [float(e["validation"]) for e in h["epochs"] if e.get("validation") is not None]
        for name, h in histories.items()
    }
    shown: Shown = {"final_loss": fmean(line[-1] for line in losses.values()), "loss": pictures.curves(losses, "loss")}
    if all(scores.values()):
        shown["best_epoch"] = fmean(float(h["best_epoch"]) for h in histories.values())
        shown["validation"] = pictures.curves(scores, "validation")
    return shown


def _rows(found: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for seed in found["seeds"]:
        for season, test in sorted(seed["tests"].items()):
            values = {name: round(float(test[name]), 4) for name in (*METRICS, "majority_oa")}
            yield {"seed": int(seed["seed"]), "tested on": season, **values}


def _table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])


def _first_tile(opened: SeasonStore) -> dg.MarkdownMetadataValue:
    """The clearest date of the first tile in true colour (or the first three bands), and its labels."""
    reflectance, valid, labels = opened.read(0, None, None)
    date = int(valid.mean(axis=(1, 2)).argmax())
    visible = [opened.bands.index(band) for band in ("B04", "B03", "B02") if band in opened.bands]
    image = reflectance[date, visible if len(visible) == len("RGB") else [0, 1, 2]].transpose(1, 2, 0)
    rgb = (np.clip(image / max(1.0, float(np.percentile(image, 98))), 0, 1) * 255).astype(np.uint8)
    named = f"{opened.ids[0]}, {opened.dates(0)[date]}"
    return pictures.panels({named: rgb, "labels": labels}, len(opened.classes))


def _maps(path: Path, classes: int) -> Shown:
    """The first map of every season tested, beside truth and picture."""
    with np.load(path) as maps:
        first = {name.split("/")[0]: name.rsplit("/", 1)[0] for name in reversed(maps.files)}
        return {
            f"map_{season}": pictures.panels(
                {part: maps[f"{tile}/{part}"] for part in ("rgb", "truth", "prediction")}, classes
            )
            for season, tile in sorted(first.items())
        }
