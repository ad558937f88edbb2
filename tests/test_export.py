import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stcln import lineage
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.export import SHAPES, choose, export
from stcln.model import served
from stcln.model.checkpoint import Card, load_classifier, read_card, save
from stcln.model.compute import Device
from stcln.model.network import Config, build
from stcln.model.served import read_onnx, write_onnx
from stcln.model.windows import normalise, predict_tile
from stcln.model_card import licence, model_card
from stcln.stages import lineage_of
from stcln.storage import digest, read_json, write_json
from stcln.study import Champion
from stcln.workspace import Workspace

onnx = pytest.importorskip("onnx", reason="needs the [onnx] extra")
pytest.importorskip("onnxscript", reason="needs the [onnx] extra")
pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")

STUDY = {
    "name": "little",
    "dataset": {"source": "simulated", "layout": "cube"},
    "splits": {role: {"take": [role]} for role in ("pretrain", "train", "validation", "test")},
    "cells": {"season": ["2018", "2019"], "length": ["full"], "scratch": ["scratch"], "pretrained": ["pretrained"]},
    "lengths": {"full": {}},
    "arms": {"scratch": {}, "pretrained": {}},
    "pretrain": {"seasons": ["2018"], "length": "full"},
}
CARD = Card(
    kind="classifier",
    size="tiny",
    bands=("B04", "B08"),
    classes=("unknown", "wheat", "meadow", "maize"),
    ignore=(0,),
    mean=(600.0, 2800.0),
    std=(500.0, 900.0),
    window=8,
    method={"test_window": "same"},
    length={},
    length_name="full",
    season="2019",
    season_start="01-01",
    seed=1,
)


def scored(miou: float, support: int = 900) -> dict:
    """A season's scores by one seed: meadow is told half as well as wheat, and maize is not in the test tiles."""
    each = {name: round(share * miou, 6) for name, share in (("wheat", 1.4), ("meadow", 0.6))}
    per_class = {name: {**dict.fromkeys(("precision", "recall", "f1", "iou"), iou), "support": support}
                 for name, iou in each.items()}  # fmt: skip
    return {"miou": miou, "oa": miou + 0.1, "mf1": miou, "kappa": miou, "majority_oa": 0.3, "per_class": per_class}


def add_cell(workspace: Workspace, season: str, arm: str, seeds: dict[int, tuple[float, list[float]]]) -> None:
    """A cell whose seeds have (validation, mIoU on each season tested), and the seasons' validation reports."""
    cell, model = workspace.cell(season, "full", arm), workspace.finetuned(season, "full", arm)
    runs = []
    for seed, (validation, mious) in seeds.items():
        tests = {str(2018 + i): scored(miou) for i, miou in enumerate(mious)}
        runs.append({"seed": seed, "validation": validation, "tests": tests})
        (model / f"seed-{seed}").mkdir(parents=True)
        network = build(Config.of("tiny", 2, len(CARD.classes)), seed)
        network.head.blend.data.fill_(0.5)
        save(model / f"seed-{seed}", network, CARD.model_copy(update={"season": season, "seed": seed}))
        write_json(model / f"seed-{seed}/history.json", {"labelled": {"wheat": 4321, "meadow": 12}})
    scores = {"season": season, "length": "full", "arm": arm, "simulated": True, "seeds": runs}
    write_json(cell / "scores.json", {**scores, "cost": {"parameters": 4567}})
    report = {"tiles": 9, "splits": {"train": 7, "test": 2}, "rejected_tiles": 1, "trial": None}
    for name in workspace.study.cells.season:
        write_json(workspace.season(name) / "validation.json", report)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict]:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(STUDY))
    add_cell(workspace, "2018", "scratch", {1: (0.99, [0.9, 0.1]), 2: (0.5, [0.9, 0.1])})
    add_cell(workspace, "2019", "pretrained", {1: (0.6, [0.6, 0.7]), 2: (0.7, [0.5, 0.6])})
    add_cell(workspace, "2019", "scratch", {1: (0.9, [0.2, 0.3]), 2: (0.9, [0.2, 0.3])})
    return workspace, export(workspace, Silent())


def test_the_challenger_is_the_cell_best_over_all_seasons_and_its_seed_best_on_validation(exported):
    best = choose(exported[0])
    assert (best.season, best.arm, best.seed) == ("2019", "pretrained", 2)
    assert best.metrics["miou_cell"] == pytest.approx(0.6)
    assert exported[1]["cell"] == "2019-full-pretrained"


def test_onnx_equals_torch_at_every_shape_and_says_by_how_much(exported):
    workspace, summary = exported
    network, card = load_classifier(workspace.finetuned("2019", "full", "pretrained") / "seed-2")
    predict, _ = read_onnx(workspace.challenger / "model.onnx")
    rng, largest = torch.Generator().manual_seed(9), 0.0
    for B, T, H, W in (*SHAPES, (1, 2, 3, 40)):
        reflectance = torch.rand((B, T, 2, H, W), generator=rng) * 4000
        positions = torch.randint(0, 366, (B, T), generator=rng)
        valid = torch.rand((B, T, H, W), generator=rng) > 0.3
        valid[:, T - T // 3 :] = False  # padded
        with torch.inference_mode():
            expected = network(normalise(reflectance, card.mean, card.std), positions, valid).numpy()
        found = predict(reflectance.numpy(), positions.numpy(), valid.numpy())
        largest = max(largest, float(np.abs(found - expected).max()))
    assert largest <= 1e-4
    assert 0 < summary["onnx_difference"] <= 1e-4


def test_a_padded_series_gives_the_logits_of_the_unpadded_one_in_onnx_too(exported):
    predict, _ = read_onnx(exported[0].challenger / "model.onnx")
    rng = np.random.default_rng(0)
    reflectance = rng.uniform(0, 4000, (1, 6, 2, 5, 5)).astype(np.float32)
    positions, valid = np.arange(6)[None] * 20, np.ones((1, 6, 5, 5), bool)
    valid[:, 4:] = False
    padded = predict(reflectance, positions, valid)
    np.testing.assert_allclose(padded, predict(reflectance[:, :4], positions[:, :4], valid[:, :4]), atol=1e-5)


def test_the_file_carries_its_card_and_its_lineage(exported):
    workspace, _ = exported
    metadata = {entry.key: entry.value for entry in onnx.load(workspace.challenger / "model.onnx").metadata_props}
    record = json.loads(metadata[lineage.TAG])
    assert record["stage"] == "export"
    assert set(record["inputs"]) == {"reports/cells", "models/finetuned", "data/seasons"}
    _, card = read_onnx(workspace.challenger / "model.onnx")
    assert card == read_card(workspace.challenger)
    assert (card.season, card.seed) == ("2019", 2)
    assert lineage.trace(workspace.challenger / "model.onnx", workspace).node.record["stage"] == "export"


def test_the_card_tells_the_cells_mean_from_the_served_seeds_own_scores_and_how_it_was_chosen(exported):
    card, summary = read_card(exported[0].challenger), exported[1]
    wanted = {"miou_cell": 0.6, "miou": 0.55, "oa": 0.65, "validation": 0.7}
    assert card.metrics == pytest.approx(wanted) and {name: summary[name] for name in wanted} == card.metrics
    assert "chosen on test scores" in card.selection and "optimistic" in card.selection


def test_the_legend_names_and_colours_every_class(exported):
    legend = json.loads((exported[0].challenger / "legend.json").read_text())
    assert [entry["name"] for entry in legend] == ["unknown", "wheat", "meadow", "maize"]
    assert [entry["scored"] for entry in legend] == [False, True, True, True]
    assert len({entry["colour"] for entry in legend}) == 4


def test_the_agreed_seasons_decide_which_cell_it_is(exported, tmp_path: Path):
    workspace = Workspace(Path(shutil.copytree(exported[0].root, tmp_path / "agreed")))
    (workspace.root / "params.yaml").write_text(yaml.safe_dump({**STUDY, "champion": {"seasons": ["2018"]}}))
    best = choose(workspace)
    assert (best.season, best.arm, best.seed) == ("2018", "scratch", 1)
    assert best.metrics["miou_cell"] == best.metrics["miou"] == pytest.approx(0.9)


def test_the_model_card_tells_seasons_classes_limits_lineage_and_licence(exported):
    workspace, _ = exported
    text = (workspace.challenger / "MODEL_CARD.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "onnx" and "crop-mapping" in front["tags"]
    assert "**All data are simulated.**" in text and "simulated by the study itself" in text.split("## Licence")[1]
    assert "| 2018 | 0.550 ± 0.071 | 0.650 ± 0.071 | 0.550 ± 0.071 | 0.550 ± 0.071 |" in text
    assert "| 2019, trained on | 0.650 ± 0.071 |" in text
    assert "| wheat | 0.770 ± 0.099 |" in text and "| 900 |" in text
    assert "- Season 2019: 9 tiles (test 2, train 7), 1 rejected." in text
    limits = text.split("## Limits")[1].split("## Lineage")[0]
    for said in (
        "fewer than 500 pixels: meadow (12), maize (0)", "Not tested in 2018, whose test tiles do not hold it: maize",
        "Worse in 2018 than in 2019, which it was trained on, by 10.0 points", "Seeds: 2; fewer than 3",
        "Not tested: seasons other than 2018, 2019", "chosen on test scores",
    ):  # fmt: skip
        assert said in limits
    assert f"- reports/cells: `{digest(workspace.root / 'reports/cells')}`" in text


def test_the_model_card_states_the_studys_licence_or_that_it_states_none(exported):
    study = exported[0].study
    real = study.model_copy(update={"dataset": study.dataset.model_copy(update={"source": "zenodo:5012942"})})
    assert "does not state one" in licence(real) and "zenodo:5012942" in licence(real)
    stated = real.model_copy(update={"champion": Champion(licence="CC BY 4.0, the agency")})
    assert licence(stated) == "CC BY 4.0, the agency."


def test_a_class_told_half_as_well_as_the_mean_is_named_as_a_limit(exported, tmp_path: Path):
    scores = read_json(exported[0].challenger / "scores.json")
    for run in scores["seeds"]:
        run["tests"]["2018"]["per_class"]["meadow"]["iou"] = 0.1
    text = model_card(exported[0], CARD, scores, {}, lineage_of(exported[0], "export"))
    assert "Poorly told in 2018, where the mean is 0.55: meadow (IoU 0.10)." in text


def test_a_second_export_gives_the_same_bytes(exported, tmp_path: Path):
    workspace, _ = exported
    first = workspace.challenger / "model.onnx"
    network, _ = load_classifier(workspace.finetuned("2019", "full", "pretrained") / "seed-2")
    record = {entry.key: entry.value for entry in onnx.load(first).metadata_props}[lineage.TAG]
    write_onnx(tmp_path / "again.onnx", network, read_card(workspace.challenger), {lineage.TAG: record})
    assert (tmp_path / "again.onnx").read_bytes() == first.read_bytes()
    assert not any(
        node.metadata_props or node.doc_string for node in onnx.load(first).graph.node
    )  # no path of a machine


def test_onnx_stands_in_for_torch_in_mapping_a_tile(exported):
    workspace, _ = exported
    network, card = load_classifier(workspace.finetuned("2019", "full", "pretrained") / "seed-2")
    predict, served_card = read_onnx(workspace.challenger / "model.onnx")
    rng = np.random.default_rng(1)
    tile = rng.integers(0, 5000, (4, 2, 12, 10)).astype(np.int16), rng.random((4, 12, 10)) > 0.2, np.arange(4) * 30
    device = Device(torch.device("cpu"), torch.float32)
    np.testing.assert_allclose(
        predict_tile(predict, served_card, *tile, device), predict_tile(network, card, *tile, device), atol=1e-5
    )


def test_an_export_that_differs_from_torch_leaves_nothing(exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    workspace = Workspace(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    add_cell(workspace, "2018", "scratch", {1: (0.9, [0.9, 0.9])})
    monkeypatch.setattr("stcln.export.measure", lambda *_: float("nan"))
    monkeypatch.setattr("stcln.export.write_onnx", lambda path, *_: path.write_bytes(b""))
    with pytest.raises(BadInput, match="ONNX and torch differ"):
        export(workspace, Silent())
    assert not workspace.challenger.exists()


def test_without_an_evaluated_cell_there_is_no_challenger(tmp_path: Path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    with pytest.raises(BadInput, match="no cell has been evaluated"):
        export(Workspace(tmp_path), Silent())


def test_scores_that_are_not_scores_are_named(tmp_path: Path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    write_json(tmp_path / "reports/cells/2018/full/scratch/scores.json", {"seeds": []})
    with pytest.raises(BadInput, match=r"scores\.json"):
        export(Workspace(tmp_path), Silent())


def test_a_file_that_is_no_model_of_ours_is_refused(exported, tmp_path: Path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BadInput, match="not an ONNX model"):
        read_onnx(tmp_path / "text.onnx")
    with pytest.raises(BadInput, match="missing"):
        read_onnx(tmp_path / "none.onnx")
    bare = onnx.load(exported[0].challenger / "model.onnx")
    onnx.helper.set_model_props(bare, {served.CARD_KEY: "{}"})
    onnx.save(bare, tmp_path / "bare.onnx")
    with pytest.raises(BadInput, match="no card"):
        read_onnx(tmp_path / "bare.onnx")
