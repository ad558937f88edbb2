"""Steps that see no disk of Dagster's: bytes travel by DVC's remote, and the ledger records them unseen."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import real_study
from elsewhere import Elsewhere, keep_here, make, run_toy, send_away
from seaweed import Seaweed
from toy_workspace import Toy

from orchestration.champion import decide
from orchestration.deployment import Deployment
from orchestration.remote import store
from orchestration.remote.ledger import RemoteLedger
from orchestration.resources import resources
from orchestration.runners.local import LocalRunner
from orchestration.single import reason
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.interrupt import Stopped
from stcln.storage import digest

pytestmark = [pytest.mark.orchestration, pytest.mark.long]
NUMBERS = count()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy workspace that has not run; copy it."""
    return make(tmp_path_factory.mktemp("made") / "workspace").root


@pytest.fixture
def toy(made: Path, tmp_path: Path, s3: Seaweed) -> Toy:
    """A toy whose results travel by a bucket of its own."""
    toy = Toy(Path(shutil.copytree(made, tmp_path / "workspace")))
    send_away(toy, s3.bucket(f"elsewhere-{next(NUMBERS)}") + "/study")
    return toy


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "PAUSE", 0.5)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield


def runner(toy: Toy) -> Elsewhere:
    found = toy.resources["runner"]
    assert isinstance(found, Elsewhere)
    return found


def files(root: Path) -> list[str]:
    parts = [path for part in ("data", "models", "reports") for path in (root / part).rglob("*") if path.is_file()]
    return [path.relative_to(root).as_posix() for path in parts]


def test_a_study_leaves_nothing_large_here_and_a_clone_that_pulls_has_all_and_computes_nothing(
    toy: Toy, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    steps = len(toy.plan.steps())
    assert toy.dagster(instance) == steps
    assert toy.dagster(instance) == 0 and len(toy.ran()) == steps
    here, large = files(toy.root), {"weights.txt", "model.onnx", "archive.txt"}
    assert {Path(name).name for name in here}.isdisjoint(large)
    assert not [name for name in here if "reflectance/c" in name or "valid/c" in name or "label/c" in name]
    sizes = [path.stat().st_size for path in (toy.root / ".dvc/cache").rglob("*") if path.is_file()]
    assert len(sizes) > steps and max(sizes) < 20_000, "a store's images are 2 MB"
    record = instance.get_latest_materialization_event(dg.AssetKey("challenger_onnx"))
    assert record and record.asset_materialization
    shown = record.asset_materialization.metadata
    assert "`dvc pull models/challenger` brings it here" in str(shown["bytes"].value)
    assert "in 4 files" in str(shown["size"].value)

    season = toy.root / "data/seasons/2018.zarr"
    opened = SeasonStore.open(season)
    with pytest.raises(BadInput, match=r"its images are not here; `dvc pull 2018.zarr`"):
        opened.read_labels(0)
    clone = Toy(tmp_path / "clone")
    clone.root.mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "toy.py", ".gitignore", ".dvcignore", ".dvc/config"):
        (clone.root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(toy.root / name, clone.root / name)
    shutil.copytree(toy.root / ".git", clone.root / ".git")
    for pulled in (clone, toy):
        pulled.dvc("pull", "-q")
        assert "up to date" in pulled.dvc("status")
        assert large < {Path(name).name for name in files(pulled.root)}
    lines = clone.dvc("repro").splitlines()
    assert len([line for line in lines if line.endswith("didn't change, skipping")]) == steps
    clone.dvc("commit", "-q", "--force")  # what a local run would have recorded of these bytes
    assert clone.lock == toy.lock
    assert SeasonStore.open(season).read_labels(0).shape == (4, 4)


def test_a_decision_brings_here_what_it_reads(
    toy: Toy, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.dagster(instance)
    seen: list[str] = []
    monkeypatch.setattr("stcln.champion.gate.examine", lambda workspace, *_: seen.extend(files(workspace.root)) or [])
    assert "is served, first of all" in decide(toy.plan, instance, toy.resources, "champion", why="the first")
    assert {"models/challenger/model.onnx", "models/finetuned/2018/full/pretrained/weights.txt"} < {*seen}
    assert SeasonStore.open(toy.root / "data/seasons/2018.zarr").read_labels(0).shape == (4, 4)
    assert digest(toy.plan.workspace.champion) in toy.lock
    assert "is served already" in decide(toy.plan, instance, toy.resources, "champion", why="again")


def test_what_was_made_here_before_is_sent_and_not_made_again(
    made: Path, s3: Seaweed, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    toy = Toy(Path(shutil.copytree(made, tmp_path / "workspace")))
    keep_here(toy)
    toy.one(instance, "raw_archive")
    send_away(toy, s3.bucket("made-before"))
    assert toy.ran() == ["fetch"]
    assert toy.one(instance, "season_store", "2018").success
    assert toy.ran() == ["prepare 2018"]


def test_a_step_whose_message_is_lost_is_found_in_the_run_cache(toy: Toy, instance: dg.DagsterInstance) -> None:
    def lost(told: dict[str, Any]) -> dict[str, Any]:
        raise dg.Failure("killed")

    runner(toy).after = lost
    assert not toy.one(instance, "raw_archive").success
    assert toy.ran() == ["fetch"] and not (toy.root / "dvc.lock").exists()
    assert toy.one(instance, "raw_archive").success
    assert toy.ran() == [] and "fetch" in toy.lock


def test_a_step_that_was_stopped_goes_on_where_it_was(toy: Toy, instance: dg.DagsterInstance) -> None:
    seen: list[str] = []

    def stopped(root: Path, words: Sequence[str]) -> dict[str, Any]:
        state = Path(".stcln/resume/fetch/state.json")
        if not state.exists():
            state.parent.mkdir(parents=True)
            state.write_text("half")
            raise Stopped(15)
        seen.append(state.read_text())
        return run_toy(root, words)

    runner(toy).verb = stopped
    assert not toy.one(instance, "raw_archive").success
    assert toy.one(instance, "raw_archive").success and seen == ["half"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry["params"]["params.yaml"].update(seed=2), "its step ran with another params.yaml, seed"),
        (lambda entry: entry["deps"][0].update(md5="0"), "its step ran with another toy.py"),
        (lambda entry: entry["outs"][0].update(md5="0.dir"), "lacks what it made"),
    ],
)
def test_what_is_not_what_was_asked_for_is_not_recorded(
    toy: Toy, instance: dg.DagsterInstance, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    def changed(told: dict[str, Any]) -> dict[str, Any]:
        change(told["made"]["entry"])
        return told

    runner(toy).after = changed
    result = toy.one(instance, "raw_archive")
    assert said in reason(result) and not (toy.root / "dvc.lock").exists()


def test_what_was_changed_while_a_step_ran_is_not_recorded(toy: Toy, instance: dg.DagsterInstance) -> None:
    def edited(told: dict[str, Any]) -> dict[str, Any]:
        toy.edit("seed: 1", "seed: 2")
        return told

    runner(toy).after = edited
    said = reason(toy.one(instance, "raw_archive"))
    assert "params.yaml, seed was changed while it ran; materialise it again" in said


def test_an_input_that_the_remote_has_lost_is_named(toy: Toy, s3: Seaweed, instance: dg.DagsterInstance) -> None:
    toy.one(instance, "raw_archive")
    url = toy.dvc("remote", "list").split()[1].removeprefix("s3://")
    (lost,) = [path for path in s3.system.find(f"{url}/files/md5") if not path.endswith(".dir")]
    s3.system.rm(lost)
    shutil.rmtree(toy.root / ".dvc/cache")
    said = reason(toy.one(instance, "season_store", "2018"))
    assert f"data/raw in s3://{url}: it has no " in said and "`dvc push` it" in said


def test_a_remote_that_is_away_is_waited_for_and_then_told(
    made: Path, mortal_s3: Seaweed, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(Path(shutil.copytree(made, tmp_path / "workspace")))
    send_away(toy, mortal_s3.bucket("away"))
    mortal_s3.kill()
    said = reason(toy.one(instance, "raw_archive"))
    assert "s3://away: the server does not answer" in said and toy.ran() == []
    monkeypatch.setattr(store.Store, "_wait", lambda self, attempt: mortal_s3.alive or mortal_s3.start())
    assert toy.one(instance, "raw_archive").success


def test_a_workspace_without_a_remote_or_with_an_archive_of_this_machine_is_refused_at_load(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deployment.yaml").write_text("results: remote")
    monkeypatch.setenv("STCLN_DEPLOYMENT", str(tmp_path / "deployment.yaml"))
    toy = Toy(Path(shutil.copytree(made, tmp_path / "workspace")))
    with pytest.raises(BadInput, match=r"config: it names no default remote .*`dvc remote add --force --default"):
        resources(toy.root)
    toy.dvc("remote", "add", "-q", "--default", "web", "https://example.org/study")
    with pytest.raises(BadInput, match="one of the web carries no run-cache"):
        resources(toy.root)
    toy.dvc("remote", "modify", "-q", "web", "url", "s3://somewhere")
    assert isinstance(resources(toy.root)["ledger"], RemoteLedger)
    toy.edit("source: simulated", "source: ../archive")
    with pytest.raises(BadInput, match=r"dataset.source: .*steps see no disk of it"):
        resources(toy.root)
    toy.dvc("remote", "modify", "-q", "web", "url", "/srv/dvc")
    (tmp_path / "deployment.yaml").write_text("{results: remote, runner: container, image: stcln-remote}")
    with pytest.raises(BadInput, match=r"\.dvc/config: .*it lies on this machine, and steps see no disk of it"):
        resources(toy.root)
    (toy.root / ".dvc/config").write_text("[core\n")
    with pytest.raises(BadInput, match=r"\.dvc/config: .*; correct it, or take it from git"):
        resources(toy.root)


def test_a_real_step_in_a_process_of_its_own(tmp_path: Path, s3: Seaweed, instance: dg.DagsterInstance) -> None:
    root = tmp_path / "workspace"
    real_study.make(root)
    toy = Toy(root)
    toy.dvc("remote", "add", "-q", "--default", "store", s3.bucket("real"))
    toy.resources["ledger"] = RemoteLedger(root)
    toy.resources["runner"] = LocalRunner(root, Deployment(results="remote"))
    for asset, partition in (("raw_archive", None), ("season_store", "2018")):
        result = toy.one(instance, asset, partition)
        assert result.success, reason(result)
    assert not [*(root / "data").rglob("*.tfrecord*")] and (root / "data/seasons/2018.zarr/validation.json").exists()
    assert json.loads((root / ".stcln/runs/prepare@2018.json").read_text())["stage"] == "prepare@2018"
    assert all(check.passed for check in result.get_asset_check_evaluations() if check.blocking)
