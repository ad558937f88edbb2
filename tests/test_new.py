"""A workspace is made from a study, whole."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stcln.errors import BadInput
from stcln.new import LEFT_OUT, make, refresh
from stcln.stages import of
from stcln.storage import UNFINISHED, digest
from stcln.workspace import Workspace


def test_a_workspace_has_its_study_its_pipeline_and_its_code_pinned(tmp_path: Path) -> None:
    make(tmp_path / "w", "flanders", None)
    assert {p.name for p in (tmp_path / "w").iterdir()} >= {
        "params.yaml",
        "dvc.yaml",
        "code.yaml",
        ".gitignore",
        ".git",
    }
    pipeline = yaml.safe_load((tmp_path / "w/dvc.yaml").read_text())
    assert {"code.yaml": ["finetune"]} in pipeline["stages"]["finetune"]["params"]


def test_a_local_source_is_kept_relative_to_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "cubes").mkdir()
    (tmp_path / "deep").mkdir()
    make(tmp_path / "deep/w", "flanders", str(tmp_path / "cubes"))
    assert "  source: ../../cubes" in (tmp_path / "deep/w/params.yaml").read_text()


@pytest.mark.parametrize("study", ["pastis", "mtlcc"])
def test_of_a_directory_of_ones_own_everything_is_taken_whatever_the_studys_source_is_called(
    tmp_path: Path, study: str
) -> None:
    """`--source DIRECTORY` of a published study was refused by fetch: the directory holds no PASTIS.zip."""
    (tmp_path / "unpacked").mkdir()
    make(tmp_path / "w", study, str(tmp_path / "unpacked"))
    assert Workspace(tmp_path / "w").study.dataset.files == ()
    make(tmp_path / "v", study, "https://mirror.example/archives")
    assert len(Workspace(tmp_path / "v").study.dataset.files) == 1


@pytest.mark.parametrize(("source", "files"), [("https://x.org/a/PASTIS-R.zip", ()), ("s3://x/a", ("PASTIS.zip",))])
def test_a_source_that_is_a_file_is_taken_as_it_is_and_a_place_is_asked_for_the_studys_files(
    tmp_path: Path, source: str, files: tuple[str, ...]
) -> None:
    make(tmp_path / "w", "pastis", source)
    assert Workspace(tmp_path / "w").study.dataset.files == files


def test_a_url_is_kept_as_it_is(tmp_path: Path) -> None:
    make(tmp_path / "w", "flanders", "s3://bucket/cubes")
    assert "  source: s3://bucket/cubes" in (tmp_path / "w/params.yaml").read_text()


@pytest.mark.parametrize(
    ("study", "source", "problem"), [("mars", None, "no study 'mars' among"), ("flanders", "nowhere", "no such file")]
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, study: str, source: str | None, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        make(tmp_path / "w", study, source)
    assert not (tmp_path / "w").exists()


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="not an empty directory"):
        make(tmp_path / "w", "demo", None)
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["thesis.tex"]


@pytest.mark.orchestration
def test_dvc_reads_a_new_workspace_and_names_every_cell(tmp_path: Path) -> None:
    if not shutil.which("dvc"):
        pytest.skip("dvc is not on PATH")
    make(tmp_path / "w", "demo", None)
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], cwd=tmp_path / "w", capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert "finetune@2018-d10-pretrained" in listed.stdout.split()
    assert len(listed.stdout.split()) == 1 + 2 + 1 + 2 + 4 + 4 + 4 + 4 + 1 + 1


def test_dvc_ignores_unfinished_output_and_a_list_that_stands_is_extended(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    ignored = tmp_path / "w/.dvcignore"
    assert ignored.read_text().splitlines()[-2:] == [".*.part", ".*.old"]
    ignored.write_text("*.pyc")
    for _ in range(2):
        refresh(tmp_path / "w")
        assert ignored.read_text().splitlines() == ["*.pyc", ".*.part", ".*.old"]
    ours = (Path(__file__).parents[1] / ".dvcignore").read_text().splitlines()
    assert set(UNFINISHED) <= set(ours)


@pytest.mark.orchestration
def test_dvcs_md5_of_a_directory_with_unfinished_output_is_the_digest(tmp_path: Path) -> None:
    if not shutil.which("dvc"):
        pytest.skip("dvc is not on PATH")
    make(tmp_path / "w", "demo", None)
    seasons = tmp_path / "w/seasons"
    for name in ("2018.zarr/zarr.json", ".2019.zarr.0123abcd.part/zarr.json", ".2018.zarr.0123abcd.old/zarr.json"):
        (seasons / name).parent.mkdir(parents=True)
        (seasons / name).write_text(name)
    subprocess.run(["dvc", "add", "-q", "--no-commit", "seasons"], cwd=tmp_path / "w", check=True)
    (out,) = yaml.safe_load((tmp_path / "w/seasons.dvc").read_text())["outs"]
    assert out["md5"] == digest(seasons) and out["nfiles"] == 1


def test_an_update_writes_the_fields_that_dvc_tracks_and_an_older_study_lacks(tmp_path: Path) -> None:
    """`dvc repro` says "Parameters missing" of a field that is left to its default."""
    make(tmp_path / "w", "flanders", None)
    params = tmp_path / "w/params.yaml"
    text = params.read_text()
    older = [line for line in text.splitlines() if not line.startswith(("  linked:", "  only:", "champion:"))]
    assert len(older) == len(text.splitlines()) - 3
    params.write_text("\n".join(older) + "\n")
    refresh(tmp_path / "w")
    assert [line for line in older if "#" in line] == [line for line in params.read_text().splitlines() if "#" in line]
    assert yaml.safe_load(params.read_text()) == yaml.safe_load(text)


def test_an_update_writes_the_sections_that_may_be_left_out(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    params = tmp_path / "w/params.yaml"
    full = yaml.safe_load(params.read_text())
    del full["pretrain"]["window"]  # of which fine-tuning has the same
    params.write_text(yaml.safe_dump({name: part for name, part in full.items() if name not in LEFT_OUT}))
    study = Workspace(tmp_path / "w").study
    refresh(tmp_path / "w")
    found = yaml.safe_load(params.read_text())
    assert found.keys() >= {field.split(".")[0] for stage in of(study).values() for field in stage.params}
    assert Workspace(tmp_path / "w").study == study
    again = params.read_bytes()
    refresh(tmp_path / "w")
    assert params.read_bytes() == again
