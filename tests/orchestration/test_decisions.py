"""What is served, decided in Dagster and on the command line; its gate is held in tests/test_champion.py."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from toy_workspace import Toy
from typer.testing import CliRunner
from watched import Told

from orchestration import champion as command
from orchestration import study
from orchestration.champion import decide, settled
from orchestration.definitions import build_defs
from orchestration.single import Refused
from stcln.champion import Finding, served
from stcln.champion.history import read
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]
Done = tuple[Toy, dg.DagsterInstance]


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the gate finds, in place of measuring a toy's model; a test fills it."""
    found: list[Finding] = []
    monkeypatch.setattr("stcln.champion.gate.examine", lambda *_: list(found))
    return found


@pytest.fixture
def serving(done: Done, findings: list[Finding], monkeypatch: pytest.MonkeyPatch) -> Iterator[Done]:
    """A toy study, in git, whose first champion is served."""
    toy, instance = done
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (toy.root / ".gitignore").write_text("/data/\n/models/\n/reports/\n.stcln/\n.dagster/\n")
    (toy.root / "code.yaml").write_text("{}\n")
    for words in (("config", "user.name", "Ada"), ("config", "user.email", "ada@example.org"), ("add", "--all"),
                  ("commit", "-qm", "a study")):  # fmt: skip
        subprocess.run(["git", *words], cwd=toy.root, check=True)
    toy.resources["notifier"] = Told()
    decide(toy.plan, instance, toy.resources, "champion", why="the first")
    yield toy, instance


def again(toy: Toy, instance: dg.DagsterInstance, rate: float = 0.7) -> str:
    """Make another challenger; gives its version."""
    params = toy.root / "params.yaml"
    params.write_text(
        re.sub(r"scratch: {(learning_rate: \S+, )?", f"scratch: {{learning_rate: {rate}, ", params.read_text())
    )
    toy.dagster(instance)
    return digest(toy.plan.workspace.challenger)


def shown(instance: dg.DagsterInstance, asset: str = "champion") -> dg.AssetMaterialization:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event and event.asset_materialization
    return event.asset_materialization


def test_a_promotion_is_one_dvc_revision_with_who_when_and_why(serving: Done) -> None:
    toy, instance = serving
    version = digest(toy.plan.workspace.champion)
    (out,) = yaml.safe_load((toy.root / "champion.dvc").read_text())["outs"]
    made, entry = shown(instance), served(toy.plan.workspace)
    assert entry and entry.version == out["md5"] == version and version in toy.lock
    assert made.tags and made.tags["dagster/data_version"] == version
    assert (made.metadata["who"].value, made.metadata["why"].value) == ("Ada <ada@example.org>", "the first")
    assert str(made.metadata["revision"].value).startswith("committed as") and "# A toy" in str(made.metadata)
    assert "up to date" in toy.dvc("status")
    named = subprocess.run(["git", "show", "--name-only", "--format=", "HEAD"], cwd=toy.root, capture_output=True)
    assert set(named.stdout.decode().split()) == {"champion.dvc", "champions.yaml"}


def test_a_study_by_hand_lets_its_challenger_be_served_in_the_name_that_it_is_given(
    serving: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, instance = serving
    again(toy, instance)
    monkeypatch.setenv("STCLN_WORKSPACE", str(toy.root))
    monkeypatch.setattr(study, "resources", lambda root: toy.resources)
    monkeypatch.setattr(study, "brief", lambda report: "")  # a toy's has no table
    monkeypatch.setattr("sys.argv", ["study", "--who", "Maria"])
    assert study.main() == 0
    entry = served(toy.plan.workspace)
    assert entry and (entry.who, entry.why) == ("Maria", "the study toy has run")


def test_the_runs_tag_says_who_and_people_are_told(serving: Done) -> None:
    toy, instance = serving
    again(toy, instance)
    job = build_defs(toy.root, toy.resources).resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("champion")], tags={"user": "eve@example.org"}
    )
    assert done.success and shown(instance).metadata["who"].value == "eve@example.org"
    messages = toy.resources["notifier"].messages
    assert [title for title, _ in messages] == ["toy: another model is served"] * 2
    assert "eve@example.org: asked for in Dagster" in messages[1][1]
    again(toy, instance, 0.8)
    config = {"ops": {"champion": {"config": {"who": "Ada"}}}}
    job.execute_in_process(
        config, instance=instance, asset_selection=[dg.AssetKey("champion")], tags={"user": "eve@example.org"}
    )
    assert shown(instance).metadata["who"].value == "Ada (entered by eve@example.org)"


def test_a_refusal_is_no_failure_says_why_and_leaves_all_as_it_was(serving: Done, findings: list[Finding]) -> None:
    toy, instance = serving
    again(toy, instance)
    findings.append(Finding("better on the agreed seasons", "+0.1 points", False, firm=False))
    before, champion = (toy.root / "champions.yaml").read_text(), digest(toy.plan.workspace.champion)
    result = toy.one(instance, "champion")
    (check,) = result.get_asset_check_evaluations()
    assert result.success and not result.asset_materializations_for_node("champion")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == "refused: better on the agreed seasons: +0.1 points"
    rows = check.metadata["findings"].records  # type: ignore[union-attr]
    assert [record.data["looked at"] for record in rows] == [
        "as recorded", "checks passed", "better on the agreed seasons",
    ]  # fmt: skip
    assert ((toy.root / "champions.yaml").read_text(), digest(toy.plan.workspace.champion)) == (before, champion)
    assert len(toy.resources["notifier"].messages) == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_challenger_whose_checks_have_not_run_is_refused_even_if_forced(
    by_dvc: Toy, instance: dg.DagsterInstance, findings: list[Finding], force: bool
) -> None:
    said = decide(by_dvc.plan, instance, by_dvc.resources, "champion", why="now", force=force)
    assert said.startswith("refused: checks passed: no run that ended well recorded raw_archive, season_store [2018]")
    assert served(by_dvc.plan.workspace) is None and not (by_dvc.root / "champion.dvc").exists()


def test_a_challenger_of_a_blocked_chain_is_refused(done: Done, findings: list[Finding]) -> None:
    toy, instance = done
    for path in (toy.root / "models/finetuned").rglob("history.json"):
        text = path.read_text().replace("0.5", "NaN")
        path.unlink()  # it may be a link into the cache
        path.write_text(text)
    toy.dvc("commit", "-f", "-q")
    assert not toy.one(instance, "finetuned_scratch", "full|2018").success
    said = decide(toy.plan, instance, toy.resources, "champion", why="now")
    assert "checks passed: no run that ended well recorded finetuned_" in said


def test_a_stale_challenger_is_refused(done: Done, findings: list[Finding]) -> None:
    toy, instance = done
    toy.edit("title: A toy", "title: Another toy")
    assert "refused: as recorded: stale: challenger_onnx; run the study" in decide(
        toy.plan, instance, toy.resources, "champion", why="now"
    )


def test_challenger_and_champion_in_one_run(done: Done, findings: list[Finding]) -> None:
    toy, instance = done
    toy.edit("title: A toy", "title: Another toy")
    job = build_defs(toy.root, toy.resources).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("challenger_onnx"), dg.AssetKey("champion")]
    assert job.execute_in_process(instance=instance, asset_selection=keys).success
    assert served(toy.plan.workspace)


@pytest.mark.parametrize("kept", ["cache", "remote"])
def test_a_rollback_takes_the_bytes_from_cache_or_remote_and_trains_nothing(
    serving: Done, tmp_path: Path, kept: str
) -> None:
    toy, instance = serving
    if kept == "remote":
        toy.dvc("remote", "add", "-d", "store", str(tmp_path / "remote"), "-q")
        toy.dvc("push", "-q")
    first, second = digest(toy.plan.workspace.champion), again(toy, instance)
    decide(toy.plan, instance, toy.resources, "champion", why="the second")
    toy.ran()
    shutil.rmtree(toy.root / "models")
    if kept == "remote":
        toy.dvc("push", "-q")
        shutil.rmtree(toy.root / ".dvc/cache")
    decide(toy.plan, instance, toy.resources, "champion_rollback", why="maize is taken for wheat")
    if digest(toy.plan.workspace.champion) == second:  # it was put back first, since it was missing
        decide(toy.plan, instance, toy.resources, "champion_rollback", why="maize is taken for wheat")
    entry = served(toy.plan.workspace)
    assert entry and (entry.decision, entry.version, entry.before) == ("rollback", first, second)
    assert digest(toy.plan.workspace.champion) == first and toy.ran() == []
    for made in (shown(instance, "champion_rollback"), shown(instance)):
        assert made.tags and made.tags["dagster/data_version"] == first
    assert made.metadata["why"].value == "maize is taken for wheat"


def test_a_rollback_without_reason_or_bytes_is_one_sentence(serving: Done) -> None:
    toy, instance = serving
    with pytest.raises(Refused, match="champion_rollback: why: a rollback needs a reason; say why"):
        decide(toy.plan, instance, toy.resources, "champion_rollback")
    first = digest(toy.plan.workspace.champion)
    again(toy, instance)
    decide(toy.plan, instance, toy.resources, "champion", why="the second")
    shutil.rmtree(toy.root / ".dvc/cache")
    before = (toy.root / "champions.yaml").read_text()
    with pytest.raises(Refused, match=f"version {first} is in neither cache nor remote; `dvc fetch` it"):
        decide(toy.plan, instance, toy.resources, "champion_rollback", why="it is worse")
    assert (toy.root / "champions.yaml").read_text() == before


def test_a_study_ends_with_a_decision_and_does_not_undo_a_rollback(
    serving: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, instance = serving
    assert settled(toy.plan, instance, toy.resources).endswith("is served already")
    again(toy, instance)
    job = build_defs(toy.root, toy.resources).resolve_job_def("study")
    assert job.execute_in_process(instance=instance, tags={"user": "maria"}).success
    assert [(entry.who.partition(" ")[0], entry.why) for entry in read(toy.plan.workspace)] == [
        ("Ada", "the first"), ("maria", "the study toy has run"),
    ]  # fmt: skip
    again(toy, instance, 0.8)
    assert job.execute_in_process(instance=instance).success
    assert read(toy.plan.workspace)[-1].who == "job study, started by nobody named"
    decide(toy.plan, instance, toy.resources, "champion_rollback", why="it is worse")
    monkeypatch.undo()  # the gate itself
    monkeypatch.setattr("stcln.champion.gate.parity", lambda *_: Finding("ONNX equals torch", "0", True))
    assert "not rolled back before: Ada <ada@example.org> took this version away" in settled(
        toy.plan, instance, toy.resources
    )


def test_the_command_line_decides_as_the_ui_does(serving: Done, findings: list[Finding]) -> None:
    toy, instance = serving
    again(toy, instance)
    run = CliRunner(env={"STCLN_WORKSPACE": str(toy.root), "DAGSTER_HOME": None}).invoke
    findings.append(Finding("better on the agreed seasons", "−1.0 points", False, firm=False))
    asked = run(command.app, ["promote", "--why", "the season is in"])
    assert asked.exit_code == 1 and asked.output.strip() == "refused: better on the agreed seasons: −1.0 points"
    forced = run(command.app, ["promote", "--why", "new classes", "--who", "Eve", "--force"])
    assert forced.exit_code == 0 and "is served, in place of" in forced.output and "committed as" in forced.output
    back = run(command.app, ["rollback", "--why", "it is worse"])
    assert back.exit_code == 0 and back.output.startswith("rollback: ")
    entries = read(Workspace(toy.root))
    assert [(entry.decision, entry.who, entry.forced) for entry in entries[1:]] == [
        ("promotion", "Eve", True), ("rollback", "Ada <ada@example.org>", False),
    ]  # fmt: skip
    assert shown(instance, "champion_rollback").metadata["why"].value == "it is worse"


def test_a_forced_promotion_needs_a_reason_of_its_own(done: Done, findings: list[Finding]) -> None:
    toy, instance = done
    with pytest.raises(Refused, match="why: a forced promotion needs a reason"):
        decide(toy.plan, instance, toy.resources, "champion", force=True)
    assert served(toy.plan.workspace) is None


def test_without_a_challenger_a_promotion_says_to_run_the_study(toy: Toy, instance: dg.DagsterInstance) -> None:
    with pytest.raises(Refused, match="no challenger is here; run the study"):
        decide(toy.plan, instance, toy.resources, "champion", why="now")
