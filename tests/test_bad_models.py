"""Bad stores, models, scores and scenes, through the command line: one sentence, status 2, nothing written."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from made_study import make
from refusals import Break, Refused, cut
from tiny_study import restudy

from stcln.workspace import Workspace

CELL = "--season 2016 --length d6 --arm"
TUNE, TEST = f"finetune {CELL} pretrained", f"evaluate {CELL} scratch"
ENCODER, SCORES = "models/pretrained", "reports/cells/2016/d6/scratch"
SEED = "models/finetuned/2016/d6/scratch/seed-7"


def field(path: Path, name: str, value: Any) -> None:
    """Set a field of a JSON file; None drops it."""
    document = json.loads(path.read_text())
    document[name] = value
    if value is None:
        del document[name]
    path.write_text(json.dumps(document))


def attribute(store: Path, name: str, value: Any) -> None:
    document = json.loads((store / "zarr.json").read_text())
    field(store / "zarr.json", "attributes", {**document["attributes"], name: value})


def shards(store: Path, name: str, change: Break) -> None:
    for path in (store / name / "c").rglob("*"):
        if path.is_file():
            change(path)


def flipped(content: bytes) -> bytes:
    """With a bit flipped in the middle of every chunk of a shard of tiles."""
    data = bytearray(content)
    for at in range(150, len(data) // 2, 150):
        data[at] ^= 8
    return bytes(data)


STORES: dict[str, tuple[Break, str]] = {
    "missing": (shutil.rmtree, "missing … run `prepare --season 2016`"),
    "empty": (lambda s: (shutil.rmtree(s), s.mkdir()), "not a season store … prepare --season 2016"),
    "a file": (lambda s: (shutil.rmtree(s), s.write_text("store")), "missing … prepare --season 2016"),
    "torn": (lambda s: cut(s / "zarr.json"), "not a season store … prepare --season 2016"),
    "foreign": (
        lambda s: (shutil.rmtree(s), xr.Dataset({"a": ("b", [1])}).to_zarr(s, zarr_format=3)),
        "not a season store … prepare --season 2016",
    ),
    "without dates": (lambda s: shutil.rmtree(s / "date"), "not a season store … date … prepare --season 2016"),
    "of another format": (lambda s: attribute(s, "format", 99), "99 … prepare --season 2016"),
    "with a senseless start": (lambda s: attribute(s, "season_start", 5), "not a season store … prepare --season 2016"),
    "with a broken shard": (
        lambda s: shards(s, "reflectance", lambda p: p.write_bytes(b"x" * 99)),
        "not a season store … tile t0 … prepare --season 2016",
    ),
    "with a cut shard": (
        lambda s: shards(s, "reflectance", cut),
        "not a season store … tile t0 … prepare --season 2016",
    ),
    "with a flipped bit": (
        lambda s: shards(s, "reflectance", lambda p: p.write_bytes(flipped(p.read_bytes()))),
        "not a season store … tile t0 … prepare --season 2016",
    ),
    "without labels": (lambda s: shards(s, "label", Path.unlink), "label/c/0/0/0 is missing … prepare --season 2016"),
    "without validity": (
        lambda s: shards(s, "valid", Path.unlink),
        "valid/c/0/0/0/0 is missing … prepare --season 2016",
    ),
}


@pytest.mark.parametrize("verb", ["pretrain", f"finetune {CELL} scratch"])
@pytest.mark.parametrize("fault", STORES)
def test_a_season_store_that_is_none_is_refused(tiny_workspace: Workspace, refused: Refused, fault: str, verb: str):
    spoil, wanted = STORES[fault]
    spoil(tiny_workspace.season("2016"))
    refused(f"{verb} --workspace {tiny_workspace.root}", f"2016.zarr … {wanted}")


def test_training_on_nothing_is_refused(tiny_workspace: Workspace, refused: Refused):
    restudy(tiny_workspace, splits={"train": {"take": ["elsewhere"]}, "pretrain": {"take": ["elsewhere"]}})
    at = f"--workspace {tiny_workspace.root}"
    refused(f"pretrain {at}", "field splits.pretrain … 2016 … validation … name splits")
    refused(f"finetune {CELL} scratch {at}", "field splits.train … 2016 … validation … name splits")


@pytest.fixture
def trained(tiny_trained: Workspace, tmp_path: Path) -> Path:
    """A copy of the trained workspace, to break."""
    shutil.copytree(tiny_trained.root, tmp_path / "tiny")
    return tmp_path / "tiny"


MODELS: dict[str, tuple[str, Break, str]] = {
    "no encoder": (TUNE, lambda r: shutil.rmtree(r / ENCODER), "models/pretrained/card.json … missing … run the step"),
    "an encoder without weights": (
        TUNE,
        lambda r: (r / ENCODER / "weights.safetensors").unlink(),
        "weights.safetensors … missing … run the step",
    ),
    "a torn encoder": (
        TUNE,
        lambda r: cut(r / ENCODER / "weights.safetensors"),
        "weights.safetensors … not a safetensors file … run the step",
    ),
    "a classifier for an encoder": (
        TUNE,
        lambda r: (shutil.rmtree(r / ENCODER), shutil.copytree(r / SEED, r / ENCODER)),
        "models/pretrained/card.json … classifier … give a pre-trained encoder",
    ),
    "an encoder of other bands": (
        TUNE,
        lambda r: field(r / ENCODER / "card.json", "bands", ["B02", "B03", "B04", "B05"]),
        "models/pretrained/card.json … B05 … pretrain` again",
    ),
    "no model": (
        TEST,
        lambda r: shutil.rmtree(r / "models/finetuned/2016"),
        "2016/d6/scratch … no model here … finetune",
    ),
    "a torn model": (
        TEST,
        lambda r: cut(r / SEED / "weights.safetensors"),
        "seed-7/weights.safetensors … not a safetensors file … run the step",
    ),
    "a torn card": (TEST, lambda r: cut(r / SEED / "card.json"), "seed-7/card.json … not JSON … restore"),
    "a card without size": (
        TEST,
        lambda r: field(r / SEED / "card.json", "size", None),
        "seed-7/card.json, field size … required … run the step",
    ),
    "a card of another size": (
        TEST,
        lambda r: field(r / SEED / "card.json", "size", "base"),
        "seed-7/weights.safetensors … tensors do not fit … keep weights and card",
    ),
    "a mean of NaN": (
        TEST,
        lambda r: field(r / SEED / "card.json", "mean", [float("nan")] * 4),
        "seed-7/card.json, field mean … run the step",
    ),
    "no history": (
        TEST,
        lambda r: (r / SEED / "history.json").unlink(),
        "seed-7/history.json … missing … run the step",
    ),
    "a history that is none": (
        TEST,
        lambda r: (r / SEED / "history.json").write_text("{}"),
        "seed-7/history.json … run the step",
    ),
    "weights of NaN": (TEST, lambda r: nan_weights(r / SEED), "seed-7/weights.safetensors … not finite … run the step"),
    "no other season": (
        TEST,
        lambda r: shutil.rmtree(r / "data/seasons/2017.zarr"),
        "2017.zarr … missing … prepare --season 2017",
    ),
    "no scores to report": (
        "report",
        lambda r: shutil.rmtree(r / "reports/cells"),
        "reports/cells … no cell has been scored … evaluate",
    ),
    "scores that are none to report": (
        "report",
        lambda r: (r / SCORES / "scores.json").write_text("{}"),
        "2016/d6/scratch/scores.json … evaluate",
    ),
    "torn scores": (
        "report",
        lambda r: cut(r / SCORES / "scores.json"),
        "2016/d6/scratch/scores.json … not JSON … run the step",
    ),
    "no scores to export": (
        "export",
        lambda r: shutil.rmtree(r / "reports/cells"),
        "reports/cells … no cell has been evaluated … evaluate",
    ),
    "no models to export": (
        "export",
        lambda r: shutil.rmtree(r / "models/finetuned"),
        "models/finetuned … card.json … missing … run the step",
    ),
    "no lineage": (
        "report",
        lambda r: (r / SCORES / "lineage.json").unlink(),
        "scratch/lineage.json … missing … run the step",
    ),
}


def nan_weights(home: Path) -> None:
    from safetensors.numpy import load_file, save_file

    state = load_file(home / "weights.safetensors")
    save_file({name: np.full_like(value, np.nan) for name, value in state.items()}, home / "weights.safetensors")


@pytest.mark.parametrize("fault", MODELS)
def test_a_model_or_scores_that_are_none_are_refused(trained: Path, refused: Refused, fault: str):
    argv, spoil, wanted = MODELS[fault]
    spoil(trained)
    refused(f"{argv} --workspace {trained}", wanted)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A cube that the tiny study's models map, beside them."""
    rng = np.random.default_rng(1)
    days = np.array(["2016-04-01", "2016-06-01", "2016-08-01"], "datetime64[ns]")
    bands = {
        n: (("time", "y", "x"), rng.integers(300, 4000, (3, 9, 9)).astype(np.int16))
        for n in ("B02", "B03", "B04", "B08")
    }
    at = {"time": days, "y": 5e6 - 10 * np.arange(9.0), "x": 5e5 + 10 * np.arange(9.0)}
    xr.Dataset(bands, at, {"crs": "EPSG:32632", "season": "2016"}).to_netcdf(tmp_path / "scene.nc")
    return tmp_path / "scene.nc"


def few(path: Path) -> None:
    with xr.open_dataset(path) as data:
        fewer = data.load().drop_vars("B08")
    path.unlink()
    fewer.to_netcdf(path)


SCENES: dict[str, tuple[Break, str, str, str]] = {
    "no cube": (
        lambda r: (r / "scene.nc").write_bytes(b"no cube"),
        SEED,
        "map.tif",
        "scene.nc … not a NetCDF file … convert it",
    ),
    "nothing": (lambda r: (r / "scene.nc").unlink(), SEED, "map.tif", "scene.nc … nothing is here … give a cube"),
    "an empty directory": (
        lambda r: ((r / "scene.nc").unlink(), (r / "scene.nc").mkdir()),
        SEED,
        "map.tif",
        "scene.nc … give a cube",
    ),
    "a band missing": (lambda r: few(r / "scene.nc"), SEED, "map.tif", "scene.nc … lacks B08 … add them"),
    "no model": (lambda r: None, "nowhere", "map.tif", "nowhere … no model is here … give a fine-tuned"),
    "an encoder": (
        lambda r: None,
        "models/pretrained",
        "map.tif",
        "pretrained/card.json … encoder … give a fine-tuned",
    ),
    "no ONNX file": (lambda r: None, "model.onnx", "map.tif", "model.onnx … missing … export"),
    "an ONNX file that is none": (
        lambda r: (r / "tiny/model.onnx").write_bytes(b"not onnx"),
        "model.onnx",
        "map.tif",
        "model.onnx … not an ONNX model … export",
    ),
    "no GeoTIFF": (lambda r: None, SEED, "map.png", "map.png … GeoTIFF … .tif"),
    "a missing directory": (lambda r: None, SEED, "maps/may/map.tif", "maps/may … no such directory … make it"),
}


@pytest.mark.parametrize("fault", SCENES)
def test_what_cannot_be_mapped_is_refused(trained: Path, tmp_path: Path, scene: Path, refused: Refused, fault: str):
    spoil, model, output, wanted = SCENES[fault]
    spoil(tmp_path)
    refused(f"predict scene.nc {output} --model {trained / model}", wanted)


@pytest.mark.parametrize("name", ["reports/cells/2018/full/scratch/maps.npz", "models/pretrained/sample.npz"])
def test_arrays_that_are_torn_are_refused_by_the_report(tmp_path: Path, refused: Refused, name: str):
    root = make(tmp_path / "made").root
    cut(root / name)
    refused(f"report --workspace {root}", f"{name} … not a whole .npz file … run the step")


def test_a_path_without_lineage_is_refused(tmp_path: Path, refused: Refused):
    for name in ("a.tif", "a.onnx", "a.txt"):
        (tmp_path / name).write_bytes(b"\x01none")
        refused(f"lineage {name}", f"{name} … give")
    refused("lineage nowhere", "nowhere … nothing is here … give the path")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/lineage.json").write_text("[]")
    refused("lineage out", "out/lineage.json … lacks … stage … run the step")
