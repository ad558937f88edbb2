"""What the UI shows of every output: numbers that plot over time, tables, pictures, where it lies; in this order.

Every function reads one stage's output as its formats promise, after the stage has run or its version has been
restored, in Dagster or outside. All numbers are floats, so that the UI plots them from one materialisation to the next.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import dagster as dg
import numpy as np
from matplotlib.image import imread

from assets import pictures
from assets.stage import numbers
from stcln.data.archive import simulated
from stcln.data.only import words
from stcln.data.store import SeasonStore
from stcln.drift.decision import distances
from stcln.report.maps import reconstruction
from stcln.report.measured import taken
from stcln.stages import evaluate_stage, finetune_stage, name_of
from stcln.storage import read_json
from stcln.workspace import Workspace

METRICS = ("oa", "miou", "mf1", "kappa", "majority_oa")
MIB = 1 << 20
SEEN = (
    "*.json", "*.md", "*.html", "*.png", "*.npz", "SIMULATED.txt", "*/SIMULATED.txt",
    *(f"{array}/c/*" for array in ("band", "tile", "split", "date*", "transform")),
)  # fmt: skip
"""What of an output these functions and the checks read: no model, no image of a season."""
Shown = dict[str, Any]


def archive(workspace: Workspace) -> Shown:
    """Of data/raw: how much there is, and where it came from."""
    dataset = workspace.study.dataset
    trial = {"trial": words(dataset.only)} if dataset.trial else {}
    return {"source": dataset.source, "simulated": simulated(workspace), **trial, **_lies(workspace.raw)}


def store(workspace: Workspace, season: str) -> Shown:
    """Of a season store: its counts, what was rejected, classes, dates, and its first tile beside its labels."""
    path = workspace.season(season)
    validation, opened = read_json(path / "validation.json"), SeasonStore.open(path)
    for repair in validation["findings"].values():
        repair.pop("by_tile", None)  # of every tile of the season: too long for an event
    return {
        **_plain(validation),
        **({"trial": f"a trial on {validation['tiles']} tiles"} if validation["trial"] else {}),
        "simulated": opened.simulated,
        "bands": ", ".join(opened.bands),
        "crs": opened.crs,
        "validation": dg.MetadataValue.json(validation),
        **({"pictures": pictures.sheet(_first_tile(opened), opened.simulated)} if opened.images else {}),
        **_lies(path),
    }


def encoder(workspace: Workspace) -> Shown:
    """Of the pre-trained encoder: its loss by epoch, its cost, and what was hidden of a sample and rebuilt."""
    home = workspace.pretrained
    history, bands = read_json(home / "history.json"), read_json(home / "card.json")["bands"]
    shown, drawn = _learning({"encoder": history}), {}
    if sample := reconstruction(home / "sample.npz", bands):
        shown |= numbers({"sample_error": sample.error, "sample_error_of_mean": sample.baseline})
        strips = {s.title: {name: imread(BytesIO(png)) for name, png in s.images} for s in sample.strips}
        drawn = {"A held-out sample: near infrared, red, green; grey is hidden": pictures.rows(strips)}
    return {
        **shown,
        **_plain(history),
        **_took(workspace, "pretrain", home),
        "pictures": pictures.sheet({**drawn, **_curves({"encoder": history})}, simulated(workspace)),
        **_lies(home),
    }


def drift(workspace: Workspace, season: str) -> Shown:
    """Of a season's drift: the decision, its sentence, and the numbers that it rests on."""
    home = workspace.drift(season)
    found = read_json(home / "drift.json")
    return {
        "decision": found["decision"],
        "reason": found["reason"],
        **numbers(distances(found)),
        "against": ", ".join(found["against"]),
        "simulated": found["simulated"],
        "drift": dg.MetadataValue.json(found),
        **_lies(home),
    }


def models(workspace: Workspace, season: str, length: str, arm: str) -> Shown:
    """Of a cell's models: loss and validation score, both by epoch, a line a seed; multiply-adds of a training."""
    stage = name_of(finetune_stage(workspace.study, arm), season=season, length=length, arm=arm)
    home = workspace.finetuned(season, length, arm)
    histories = {path.parent.name: read_json(path) for path in sorted(home.glob("seed-*/history.json"))}
    return {
        **_learning(histories),
        "seeds": float(len(histories)),
        **numbers({"multiply_adds": fmean(history["multiply_adds"] for history in histories.values())}),
        **_took(workspace, stage, home),
        "pictures": pictures.sheet(_curves(histories), simulated(workspace)),
        **_lies(home),
    }


def scores(workspace: Workspace, season: str, length: str, arm: str) -> Shown:
    """Of a cell: mean scores on its own season, plainly, and on others, by name; each seed's; cost; maps, confusion."""
    stage = name_of(evaluate_stage(workspace.study, arm), season=season, length=length, arm=arm)
    home = workspace.cell(season, length, arm)
    found = read_json(home / "scores.json")
    classes: list[str] = found["classes"]
    others = [name for name in tested(found) if name != season]
    matrix = np.sum([seed["tests"][season]["confusion"] for seed in found["seeds"]], axis=0).tolist()
    ignore = [classes.index(name) for name in workspace.study.dataset.ignore if name in classes]
    drawn = {f"Confusion on {season}, all seeds": pictures.confusion(matrix, classes)}
    return {
        **numbers(pooled(found, [season])),
        **{f"{k}_{other}": v for other in others for k, v in numbers(pooled(found, [other])).items()},
        **numbers(found["cost"]),
        **_took(workspace, stage, home),
        "scores": _table(_rows(found)),
        "pictures": pictures.sheet({**_maps(home / "maps.npz", classes, ignore), **drawn}, found["simulated"]),
        "simulated": found["simulated"],
        **_lies(home),
    }


def variant(workspace: Workspace, variant: str) -> Shown:
    """Of a variant: mean mIoU of its arms on their own season, each run's scores; or why it has no effect here."""
    home = workspace.ablation(variant)
    found = read_json(home / "scores.json")
    rows = [
        {"seed": int(run["seed"]), "arm": cell["arm"], "trained on": cell["season"], "tested on": season,
         **{name: round(float(test[name]), 4) for name in METRICS if name in test}}
        for run in found["runs"] for cell in run["cells"] for season, test in sorted(cell["tests"].items())
    ]  # fmt: skip
    own: dict[str, list[float]] = {}
    for row in rows:
        if row["trained on"] == row["tested on"]:
            own.setdefault(f"miou_{row['arm']}", []).append(row["miou"])
    shown = {"no effect": found["idle"]} if found["idle"] else {"scores": _table(rows)}
    means = numbers({name: fmean(values) for name, values in own.items()})
    return {**means, **shown, "simulated": simulated(workspace), **_lies(home)}


def report(workspace: Workspace) -> Shown:
    """Of the report: its finding, all of it as Markdown, and where its page lies."""
    home, found = workspace.report, read_json(workspace.report / "report.json")
    tiles = {name: season["tiles"] for name, season in found["seasons"].items() if season["trial"]}
    trial = " and ".join(f"{count} tiles of {name}" for name, count in tiles.items())
    drawn = pictures.address((home / "figure3.png").read_bytes())
    return {
        "finding": found["finding"],
        **({"trial": f"a trial on {trial}"} if trial else {}),
        "report": dg.MetadataValue.md((home / "report.md").read_text().replace("figure3.png", drawn)),
        "page": dg.MetadataValue.path(page(workspace)),
        "simulated": simulated(workspace),
        **_lies(home),
    }


def page(workspace: Workspace) -> Path:
    """The report's page: the one with seconds and energy, if the last run on this machine made what stands."""
    here = taken(workspace, "report", workspace.report) is not None
    return (workspace.report.parent if here else workspace.report) / "index.html"


def challenger(workspace: Workspace) -> Shown:
    """Of the challenger: its cell and cards, and the scores of its seed and its cell, means over the agreed seasons."""
    home, study = workspace.challenger, workspace.study
    card = read_json(home / "card.json")
    return {
        **numbers(card["metrics"]),
        "season": card["season"],
        "length": card["length_name"],
        "study": study.name,
        "seasons": ", ".join(study.agreed),
        "simulated": simulated(workspace),
        "model_card": dg.MetadataValue.md((home / "MODEL_CARD.md").read_text()),
        "card": dg.MetadataValue.json(card),
        **_lies(home),
    }


SHOW: Mapping[str, Callable[..., Shown]] = {
    "fetch": archive,
    "prepare": store,
    "pretrain": encoder,
    "drift": drift,
    "finetune": models,
    "evaluate": scores,
    "ablate": variant,
    "report": report,
    "export": challenger,
}
"""What shows the output of a verb, given the workspace and the stage's keys."""


def tested(found: Mapping[str, Any]) -> list[str]:
    """The seasons that a scores.json tests."""
    return sorted({season for seed in found["seeds"] for season in seed["tests"]})


def pooled(found: Mapping[str, Any], seasons: Sequence[str]) -> dict[str, float]:
    """Each metric's mean over seeds and the named seasons."""
    tests = [seed["tests"][season] for seed in found["seeds"] for season in seasons]
    return {name: fmean(test[name] for test in tests) for name in METRICS}


def _took(workspace: Workspace, stage: str, output: Path) -> Shown:
    """What the step took; nothing where its last run on this machine, if any, did not make its output."""
    found = taken(workspace, stage, output)
    if found is None:
        return {}
    took = {
        "step_seconds": found.seconds, "cpu_seconds": found.cpu_seconds, "peak_memory_gb": found.gigabytes,
        "energy_wh_estimate": found.watt_hours, "predict_seconds_per_km2": found.seconds_per_km2,
    }  # fmt: skip
    return numbers({name: value for name, value in took.items() if value is not None})


def _lies(directory: Path) -> Shown:
    files = [path for path in directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return {"path": dg.MetadataValue.path(directory), "size": f"{size / MIB:.3g} MiB in {len(files)} files"}


def _plain(values: Mapping[str, Any]) -> Shown:
    """The numbers and short texts of a JSON object."""
    return numbers({key: value for key, value in values.items() if isinstance(value, float | int | str)})


def _learning(histories: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Means over runs of the last loss, and of the best epoch and its score where there is validation."""
    best = {name: h["epochs"][h["best_epoch"] - 1].get("validation") for name, h in histories.items()}
    shown = {"final_loss": fmean(float(h["epochs"][-1]["loss"]) for h in histories.values())}
    if all(score is not None for score in best.values()):
        shown["validation"] = fmean(best.values())
        shown["best_epoch"] = fmean(float(h["best_epoch"]) for h in histories.values())
    return numbers(shown)


def _curves(histories: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Loss and validation score by epoch, a line a run."""
    fields = {"Loss": "loss", "Validation": "validation"}
    lines = {
        title: {name: [e[key] for e in h["epochs"] if e.get(key) is not None] for name, h in histories.items()}
        for title, key in fields.items()
    }
    return {title: pictures.curves(line, title.lower()) for title, line in lines.items() if all(line.values())}


def _rows(found: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for seed in found["seeds"]:
        for season, test in sorted(seed["tests"].items()):
            values = {name.removesuffix("_oa"): round(float(test[name]), 4) for name in METRICS}
            yield {"seed": int(seed["seed"]), "tested on": season, **values}


def _table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])


def _first_tile(opened: SeasonStore) -> dict[str, str]:
    """The clearest date of the first tile in true colour (or the first three bands), and its labels."""
    reflectance, valid, labels = opened.read(0, None, None)
    date = int(valid.mean(axis=(1, 2)).argmax())
    visible = [opened.bands.index(band) for band in ("B04", "B03", "B02") if band in opened.bands]
    image = reflectance[date, visible if len(visible) == len("RGB") else [0, 1, 2]].transpose(1, 2, 0)
    rgb = (np.clip(image / max(1.0, float(np.percentile(image, 98))), 0, 1) * 255).astype(np.uint8)
    day = str(opened.dates(0)[date])
    return {f"Tile {opened.ids[0]}": pictures.panels({day: rgb, "labels": labels}, opened.classes, opened.ignore)}


def _maps(path: Path, classes: Sequence[str], ignore: Sequence[int]) -> dict[str, str]:
    """The first map of every season tested, beside truth and picture."""
    parts = {"true colour": "rgb", "truth": "truth", "prediction": "prediction"}
    with np.load(path) as maps:
        first = {name.split("/")[0]: name.rsplit("/", 1)[0] for name in reversed(maps.files)}
        return {
            f"Tested on {season}, tile {tile.split('/')[-1]}": pictures.panels(
                {name: maps[f"{tile}/{part}"] for name, part in parts.items()}, classes, ignore
            )
            for season, tile in sorted(first.items())
        }
