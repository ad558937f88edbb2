import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rich.console import Console

from stcln import lineage, storage, workspace
from stcln.errors import BadInput
from stcln.workspace import Workspace

STUDY = {
    "name": "little",
    "dataset": {"source": "simulated", "layout": "cube", "files": []},
    "splits": {role: {"take": [role]} for role in ("pretrain", "train", "validation", "test")},
    "cells": {"season": ["2018"], "length": ["full"], "scratch": ["scratch"], "pretrained": []},
    "lengths": {"full": {}},
    "arms": {"scratch": {}},
    "pretrain": {"seasons": ["2018"], "length": "full"},
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with an archive, a store, a model and a cell, each with the lineage a step would write."""
    for verb in workspace.CODE:
        monkeypatch.setitem(workspace.CODE, verb, ("errors.py",))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    place = Workspace(tmp_path)
    values = place.study.model_dump(mode="json")
    fill(place.raw, "tile.bin", b"raw")
    fill(place.season("2018"), "zarr.json", b"{}")
    fill(place.season("2018"), "validation.json", b"{}")
    lineage.write(
        place.season("2018"), "prepare@2018", {"data/raw": place.raw}, {"dataset": values["dataset"]}, "prepare", 1
    )
    model = place.finetuned("2018", "full", "scratch")
    fill(model / "seed-1", "weights.safetensors", b"weights")
    store = {"data/seasons/2018.zarr": place.season("2018")}
    params = {"finetune": values["finetune"], "arms.scratch": values["arms"]["scratch"]}
    lineage.write(model, "scratch@2018-full-scratch", store, params, "finetune", 1)
    cell = place.cell("2018", "full", "scratch")
    fill(cell, "scores.json", b"{}")
    inputs = {"models/finetuned/2018/full/scratch": model, "data/seasons": place.seasons}
    lineage.write(cell, "evaluate-scratch@2018-full-scratch", inputs, {}, "evaluate", 1)
    return place


def fill(directory: Path, name: str, content: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


def problems(place: Workspace) -> list[str]:
    return lineage.trace(place.cell("2018", "full", "scratch"), place).problems


def test_a_record_holds_only_what_every_run_repeats(made: Workspace) -> None:
    record = storage.read_json(made.season("2018") / "lineage.json")
    assert set(record) == {"stage", "verb", "inputs", "params", "code", "seed", "outputs"}
    assert record["inputs"] == {"data/raw": storage.digest(made.raw)}
    assert record["outputs"] == {
        name: storage.digest(made.season("2018") / name) for name in ("validation.json", "zarr.json")
    }


def test_the_walk_reaches_the_archive_from_a_file_in_a_cell(made: Workspace) -> None:
    found = lineage.trace(made.cell("2018", "full", "scratch") / "scores.json", made)
    assert found.matches
    paths = [node.path for node in found.nodes]
    assert paths[-1] == "reports/cells/2018/full/scratch", "each behind what it was made from"
    assert {"models/finetuned/2018/full/scratch", "data/seasons/2018.zarr", "data/raw"} <= set(paths)


def test_a_changed_input_is_named_with_both_digests(made: Workspace) -> None:
    was = storage.digest(made.raw)
    fill(made.raw, "tile.bin", b"other")
    assert problems(made) == [f"data/raw changed since: recorded {was[:8]}.., now {storage.digest(made.raw)[:8]}.."]


def test_a_score_edited_by_hand_is_flagged_although_nothing_consumes_it(made: Workspace) -> None:
    fill(made.cell("2018", "full", "scratch"), "scores.json", b'{"miou": 1}')
    assert problems(made)[0].startswith("reports/cells/2018/full/scratch/scores.json changed since: recorded ")


def test_missing_and_added_files_are_named(made: Workspace) -> None:
    (made.finetuned("2018", "full", "scratch") / "seed-1/weights.safetensors").unlink()
    fill(made.season("2018"), "notes.txt", b"mine")
    (made.cell("2018", "full", "scratch") / "scores.json").unlink()
    text = "\n".join(problems(made))
    assert "reports/cells/2018/full/scratch/scores.json is missing (recorded 99914b93..)" in text
    assert "models/finetuned/2018/full/scratch/seed-1 changed since" in text
    assert "data/seasons/2018.zarr/notes.txt is not part of what its step wrote" in text


def test_a_parameter_changed_in_params_yaml_is_named_down_to_the_field(made: Workspace) -> None:
    study = STUDY | {"finetune": {"epochs": 7}, "arms": {"scratch": {"labels": 0.5}}}
    (made.root / "params.yaml").write_text(yaml.safe_dump(study))
    where = "models/finetuned/2018/full/scratch: made with"
    assert problems(Workspace(made.root)) == [
        f"{where} arms.scratch.labels = 1.0, params.yaml now says 0.5",
        f"{where} finetune.epochs = 100, params.yaml now says 7",
    ]


def test_code_changed_since_is_named(made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workspace.CODE, "prepare", ("errors.py", "events.py"))
    assert [problem.split(":")[1] for problem in problems(made)] == [" code of `prepare` changed since"]


def test_a_file_is_hashed_once_in_a_walk(made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self), plain(self, *a, **k))[1])
    lineage.trace(made.cell("2018", "full", "scratch"), made)
    hashed = [path for path in opened if path.name in ("zarr.json", "weights.safetensors", "tile.bin")]
    assert len(hashed) == len(set(hashed)) == 3


def test_the_tree_draws_a_shared_output_once_and_marks_mismatches(made: Workspace) -> None:
    fill(made.raw, "tile.bin", b"other")
    console = Console(file=io.StringIO(), width=200)
    console.print(lineage.render(lineage.trace(made.cell("2018", "full", "scratch"), made)))
    text = console.file.getvalue()
    assert text.count("prepare@2018") == 1 and "data/seasons/2018.zarr  (as above)" in text
    assert "✗ data/raw changed since" in text


def test_the_json_form_holds_every_record_once(made: Workspace) -> None:
    tree = json.loads(json.dumps(lineage.as_json(lineage.trace(made.cell("2018", "full", "scratch"), made))))
    assert tree["matches"] is True and tree["path"] == "reports/cells/2018/full/scratch"
    assert tree["nodes"]["models/finetuned/2018/full/scratch"]["stage"] == "scratch@2018-full-scratch"


def test_a_map_carries_its_lineage_in_its_tags(made: Workspace) -> None:
    model = "models/finetuned/2018/full/scratch/seed-1"
    record = lineage.record("predict", {model: made.root / model}, {}, "predict", None)
    path = made.root / "map.tif"
    with rasterio.open(
        path, "w", "GTiff", 2, 2, 1, "EPSG:32631", rasterio.Affine(10, 0, 0, 0, -10, 0), "uint8"
    ) as image:
        image.write(np.zeros((1, 2, 2), np.uint8))
        image.update_tags(**{lineage.TAG: json.dumps(record)})
    found = lineage.trace(path, made)
    assert found.matches and "data/raw" in [node.path for node in found.nodes]
    fill(made.root / model, "weights.safetensors", b"others")
    assert f"{model} changed since" in lineage.trace(path, made).problems[0]


def test_what_carries_no_lineage_ends_in_a_sentence(made: Workspace) -> None:
    with pytest.raises(
        BadInput, match=r"no lineage.json here or above; give the path of an output that a step wrote\.$"
    ):
        lineage.trace(made.raw / "tile.bin", made)
    with pytest.raises(BadInput, match="nothing is here"):
        lineage.trace(made.root / "nowhere", made)
    (made.season("2018") / "lineage.json").write_text('{"stage": "prepare@2018"}')
    with pytest.raises(BadInput, match="lacks code, inputs, outputs, params, seed, verb; run the step"):
        lineage.trace(made.season("2018"), made)
