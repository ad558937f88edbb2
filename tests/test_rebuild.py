"""A result is made again from its lineage: the same bytes, or a sentence that says what is not the same."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_study import restudy
from typer.testing import CliRunner

from stcln import workspace as workspace_module
from stcln.cli import app
from stcln.errors import BadInput
from stcln.events import Silent, Value
from stcln.rebuild import rebuild
from stcln.stages import write_lineage
from stcln.storage import digest, whole_directory, write_json
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "d6", "pretrained")
ORDER = ["pretrain", "finetune@2016-d6-pretrained"]


@pytest.fixture
def trained(tiny_workspace: Workspace) -> Workspace:
    """A workspace with an encoder and one cell's models."""
    place = restudy(tiny_workspace, finetune={"seeds": 1, "epochs": 1}, pretrain={"epochs": 1})
    pretrain(place, Silent())
    finetune(place, *CELL, Silent())
    return place


class Breaking:
    """Breaks off when the first stage has been compared."""

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Listens on."""

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """The first comparison ends it."""
        if "recorded" in message:
            raise KeyboardInterrupt


def test_a_model_comes_out_the_same_with_the_parameters_of_then(trained: Workspace) -> None:
    model = trained.finetuned(*CELL)
    before = {path: digest(path) for path in (model, trained.pretrained, trained.seasons)}
    later = restudy(trained, finetune={"epochs": 7, "learning_rate": 0.5}, seed=99)
    clean, results = rebuild(model, later, Silent())
    assert [result.stage for result in results] == ORDER
    assert [result.differences for result in results] == [(), ()]
    assert clean.parent == trained.root / ".stcln/rebuild" and (clean / "models/pretrained/lineage.json").is_file()
    assert {path: digest(path) for path in before} == before


def test_a_result_that_was_altered_is_named_with_both_digests(trained: Workspace) -> None:
    record = trained.pretrained / "lineage.json"
    made = json.loads(record.read_text())
    was = made["outputs"]["history.json"]
    record.write_text(json.dumps(made | {"outputs": made["outputs"] | {"history.json": "0" * 32}}))
    _, (result,) = rebuild(trained.pretrained, trained, Silent())
    assert result.differences == (f"models/pretrained/history.json: recorded {'0' * 32}, rebuilt {was}",)


def test_a_rebuild_that_was_broken_off_goes_on(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild(trained.finetuned(*CELL), trained, Breaking())
    monkeypatch.setattr("stcln.training.pretrain.pretrain", lambda *_: pytest.fail("it stood already"))
    _, results = rebuild(trained.finetuned(*CELL), trained, Silent())
    assert [(result.stage, result.differences) for result in results] == [(stage, ()) for stage in ORDER]


def test_other_code_is_refused_before_anything_runs(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workspace_module.CODE, "pretrain", ("errors.py",))
    with pytest.raises(
        BadInput, match=r"pretrained: made by other code of `pretrain` than this; check out the revision"
    ):
        rebuild(trained.finetuned(*CELL), trained, Silent())
    assert not (trained.root / ".stcln/rebuild").exists()


def test_what_is_missing_on_the_way_is_named(trained: Workspace) -> None:
    shutil.rmtree(trained.pretrained)
    with pytest.raises(BadInput, match=r"models/pretrained: missing, and models/finetuned/2016/d6/pretrained was made"):
        rebuild(trained.finetuned(*CELL), trained, Silent())


def test_the_champion_is_made_again_as_the_challenger_it_was(
    tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reports/cells", "models/finetuned"):
        write_json(tiny_workspace.root / name / "some.json", {})

    def export(place: Workspace, reporter: Silent) -> None:
        with whole_directory(place.challenger) as directory:
            (directory / "model.onnx").write_bytes(b"onnx")
            write_lineage(directory, place, "export")

    export(tiny_workspace, Silent())
    tiny_workspace.challenger.rename(tiny_workspace.champion)
    monkeypatch.setattr("stcln.rebuild.step", lambda verb: export)
    clean, (result,) = rebuild(tiny_workspace.champion / "model.onnx", tiny_workspace, Silent())
    assert (result.path, result.stage, result.differences) == ("models/champion", "export", ())
    assert (clean / "models/challenger/model.onnx").is_file()


def test_on_the_command_line_it_starts_at_the_archive(tmp_path: Path) -> None:
    root = tmp_path / "study"
    run = CliRunner().invoke
    assert run(app, ["new", str(root)]).exit_code == 0
    restudy(Workspace(root), simulation={"tiles": 6, "size": 12, "dates": 6})
    at = ["--workspace", str(root)]
    assert run(app, ["fetch", *at]).exit_code == 0 and run(app, ["prepare", "--season", "2018", *at]).exit_code == 0
    asked = ["lineage", str(root / "data/seasons/2018.zarr"), "--rebuild"]
    same = run(app, asked)
    assert same.exit_code == 0 and "1 outputs made again from the archive: the same" in same.output
    assert not [*(root / ".stcln/rebuild").iterdir()], "what is the same is not kept"
    archive = run(app, ["lineage", str(root / "data/raw"), "--rebuild"])
    assert "the archive, which was made from nothing here" in str(archive.exception)

    archived = sorted((root / "data/raw").rglob("*.gz"))[0]
    archived.write_bytes(b"")
    changed = run(app, asked)
    assert isinstance(changed.exception, BadInput) and "not the archive that data/seasons/2018.zarr was" in str(
        changed.exception
    )


def test_what_differs_is_kept_and_the_exit_status_says_so(trained: Workspace) -> None:
    record = trained.pretrained / "lineage.json"
    made = json.loads(record.read_text())
    record.write_text(json.dumps(made | {"outputs": made["outputs"] | {"history.json": "0" * 32}}))
    done = CliRunner().invoke(app, ["lineage", str(trained.pretrained), "--rebuild", "--log", "json"])
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 1 and not told["same"] and len(told["outputs"][0]["differences"]) == 1
    assert [*(trained.root / ".stcln/rebuild").iterdir()]
