"""A source on this machine is neither copied by fetch nor by DVC, and DVC and the ledger know it all the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hostile import Server

from stcln import stages
from stcln.data.simulate import archive
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.new import make, refresh, studies
from stcln.storage import digest
from stcln.study import load_study
from stcln.workspace import Workspace


@pytest.mark.parametrize(
    ("source", "local"),
    [
        ("../archive", True),
        ("/data/PASTIS", True),
        ("archive.zip", True),
        ("file:///data/PASTIS", True),
        ("simulated", False),
        ("zenodo:5012942", False),
        ("https://example.org/a.zip", False),
        ("s3://bucket/archive", False),
    ],
)
def test_what_dvc_caches_of_the_archive_depends_on_where_it_comes_from(
    source: str, local: bool, tmp_path: Path
) -> None:
    study = load_study(studies()["demo"])
    study = study.model_copy(update={"dataset": study.dataset.model_copy(update={"source": source})})
    outs = yaml.safe_load(stages.dvc_yaml(study, checkout=True))["stages"]["fetch"]["outs"]
    assert study.dataset.local is local
    assert outs == [{"data/raw": {"cache": False, "persist": True}} if local else "data/raw"]


def test_a_pipeline_that_would_copy_a_linked_archive_is_refused(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(studies()["demo"].read_text())
    refresh(tmp_path)
    params.write_text(params.read_text().replace("source: simulated", "source: ../archive"))
    with pytest.raises(BadInput, match=r"dvc.yaml, stage fetch: has outs \['data/raw'\], not .*cache.*--update"):
        stages.check(Workspace(tmp_path), "fetch")
    refresh(tmp_path)
    stages.check(Workspace(tmp_path), "fetch")


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A workspace whose source is a directory, under DVC."""
    pytest.importorskip("dvc")
    archive(tmp_path / "archive", "mtlcc", ["2018", "2019"], 3, 12, 1, Silent())
    make(tmp_path / "w", "demo", str(tmp_path / "archive"))
    if not (tmp_path / "w/.dvc").exists():  # `dvc` is not on the path of every test run
        dvc(tmp_path / "w", "init", "-q")
    return tmp_path / "w"


def dvc(root: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def links(root: Path) -> int:
    return sum(path.is_symlink() for path in (root / "data/raw").rglob("*"))


def cached(root: Path) -> int:
    return sum(path.is_file() for path in (root / ".dvc/cache").rglob("*"))


@pytest.mark.orchestration
def test_dvc_hashes_a_linked_archive_and_copies_nothing(linked: Path) -> None:
    count = sum(path.is_file() for path in (linked.parent / "archive").rglob("*"))
    dvc(linked, "repro", "fetch")
    assert (links(linked), cached(linked)) == (count, 0)
    (lock,) = yaml.safe_load((linked / "dvc.lock").read_text())["stages"]["fetch"]["outs"]
    assert lock["md5"] == digest(linked / "data/raw")
    dvc(linked, "commit", "-f", "fetch")
    assert (links(linked), cached(linked)) == (count, 0)
    with (linked / "params.yaml").open("a") as params:
        params.write("pinned: {classes.txt: {bytes: 1}}\n")
    assert "up to date" in dvc(linked, "status", "fetch")  # no stage depends on pins
    (linked.parent / "archive/classes.txt").write_text("0|changed\n")
    assert "modified" in dvc(linked, "status", "fetch")


@pytest.mark.orchestration
def test_the_ledger_commits_a_linked_archive_without_copying_it(linked: Path) -> None:
    from orchestration.ledger import DvcLedger
    from stcln.cli import run_verb

    ledger = DvcLedger(linked)
    assert ledger.argv("fetch") == ["python", "-m", "stcln", "fetch"]
    for _ in range(2):  # once gone, it is fetched again: no cache restores it
        assert ledger.version("fetch") is None
        run_verb(["fetch", "--workspace", str(linked)], Silent())
        assert ledger.commit("fetch") == digest(linked / "data/raw")
        assert ledger.standing(["fetch"]) == {"fetch"}
        assert links(linked) > 10 and cached(linked) == 0
        shutil.rmtree(linked / "data/raw")


@pytest.mark.orchestration
def test_a_download_under_dvc_is_cached_and_pinned_and_makes_nothing_stale(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("dvc")
    make(tmp_path / "w", "demo", server.put("/a.bin", b"body"))
    if not (tmp_path / "w/.dvc").exists():
        dvc(tmp_path / "w", "init", "-q")
    dvc(tmp_path / "w", "repro", "fetch")
    assert load_study(tmp_path / "w/params.yaml").pinned["a.bin"].bytes == 4
    assert "up to date" in dvc(tmp_path / "w", "status", "fetch")
    assert cached(tmp_path / "w") > 0
    dvc(tmp_path / "w", "repro", "fetch")
    assert server.bytes_sent("/a.bin") == 5  # the first byte, and all four, once
