"""A study shared through a bucket: archive, season stores and DVC remote; a colleague trains from a clone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from on_s3 import workspace
from seaweed import Seaweed

from stcln.new import make
from stcln.storage import digest

CHECKOUT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.orchestration,
    pytest.mark.skipif(not find_spec("dvc"), reason="no DVC here: pip install 'stcln[orchestration]'"),
]


def call(root: Path, *words: str, fails: bool = False) -> str:
    """A program in a workspace, `python -m` where it is ours or DVC; gives what it said."""
    python = {"stcln": (sys.executable, "-m", "stcln"), "dvc": (sys.executable, "-m", "dvc")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    argv = [*python.get(words[0], words[:1]), *words[1:]]
    done = subprocess.run(argv, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert bool(done.returncode) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_clone_trains_from_a_store_that_was_prepared_in_place_and_pushed(
    s3: Seaweed, uploaded: Callable[[Seaweed, str], str], tmp_path: Path
) -> None:
    address, remote = uploaded(s3, "cube"), s3.bucket("dvc-remote") + "/study"
    study = workspace(tmp_path / "study", "cube", address, linked=True).study
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    mine = tmp_path / "mine"
    make(mine, str(tmp_path / "study.yaml"), None)
    if not (mine / ".dvc").exists():  # `dvc` is not on the path of every test run
        call(mine, "dvc", "init", "-q")
    call(mine, "dvc", "remote", "add", "-q", "--default", "store", remote)
    call(mine, "dvc", "repro", "prepare")
    call(mine, "dvc", "push", "-q")
    call(mine, "git", "add", "--all")
    call(mine, "git", "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-q", "-m", "A season")

    call(tmp_path, "git", "clone", "-q", str(mine), "yours")
    yours = tmp_path / "yours"
    call(yours, "dvc", "pull", "-q", "prepare")
    season = "data/seasons/2018.zarr"
    assert digest(yours / season) == digest(mine / season)
    said = call(yours, "dvc", "repro", "pretrain")
    assert "'prepare@2018' didn't change, skipping" in said
    assert (yours / "models/pretrained/lineage.json").exists()
    assert "all matches" in call(yours, "stcln", "lineage", "models/pretrained")


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory under DVC with a small store added; copy it."""
    root = tmp_path_factory.mktemp("added")
    call(root, "dvc", "init", "-q", "--no-scm")
    season = root / "data/2018.zarr"
    season.mkdir(parents=True)
    for number in range(5):
        (season / str(number)).write_bytes(os.urandom(100_000))
    call(root, "dvc", "add", "-q", "data/2018.zarr")
    return root


def at_remote(added: Path, root: Path, address: str) -> Path:
    """A copy of it with a remote; the store's path."""
    shutil.copytree(added, root, dirs_exist_ok=True)
    core = "[core]\n    remote = store\n    analytics = false\n    no_scm = true\n"
    remote = f"{core}['remote \"store\"']\n    url = {address}\n"
    (root / ".dvc/config").write_text(remote)
    return root / "data/2018.zarr"


@pytest.mark.parametrize(
    ("bucket", "key", "said"),
    [("no-such-bucket", "stcln-tests", "bucket does not exist"), ("keys", "nobody", "Forbidden")],
)
def test_dvc_tells_why_a_push_is_refused_and_nothing_is_lost(
    s3: Seaweed, added: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    bucket: str, key: str, said: str,
) -> None:  # fmt: skip
    if bucket == "keys":
        s3.bucket(bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    season = at_remote(added, tmp_path, f"s3://{bucket}/study")
    assert said in call(tmp_path, "dvc", "push", fails=True)
    assert digest(season) == digest(added / "data/2018.zarr")


def test_a_pull_from_a_server_that_is_gone_leaves_nothing_and_a_later_one_brings_all(
    mortal_s3: Seaweed, added: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    season = at_remote(added, tmp_path, mortal_s3.bucket("remote") + "/study")
    call(tmp_path, "dvc", "push", "-q")
    for gone in (season, tmp_path / ".dvc/cache"):
        shutil.rmtree(gone)
    mortal_s3.kill()
    said = call(tmp_path, "dvc", "pull", fails=True)
    assert "Could not connect" in said or "failed to pull" in said, said
    assert not season.exists()
    mortal_s3.start()
    call(tmp_path, "dvc", "pull", "-q")
    assert digest(season) == digest(added / "data/2018.zarr")
