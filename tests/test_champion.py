"""What is served changes by a decision alone: the gate, the history, and that all of it agrees whatever happens."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import BANDS, CLASSES, STUDY, restudy, synthetic_tile, write_season

from stcln.champion import By, Finding, promote, rollback, served
from stcln.champion import serving as serving_module
from stcln.champion.gate import _rolled_back, judge
from stcln.champion.history import read
from stcln.errors import BadInput
from stcln.evaluate import Model, score
from stcln.events import Silent
from stcln.export import export
from stcln.model.checkpoint import Card, save
from stcln.model.network import Config, build
from stcln.model.served import read_onnx
from stcln.storage import digest, write_json
from stcln.workspace import Workspace

pytest.importorskip("onnxscript", reason="needs the [onnx] extra")
pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")

SEASONS, SEEDS = ("2016", "2017"), (7, 8, 9)
CARD = Card(
    kind="classifier", size="tiny", bands=BANDS, classes=CLASSES, ignore=(0,), mean=(800.0, 900.0, 1000.0, 3000.0),
    std=(400.0, 400.0, 500.0, 900.0), window=8, method={"test_window": "same", "excluded": "truth"}, length={},
    length_name="full", season="2016", season_start="01-01", seed=7,
)  # fmt: skip
ADA = By("Ada", "the season is in")


@pytest.fixture(scope="module")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one cell of three seeds that was never trained, its challenger exported."""
    root = tmp_path_factory.mktemp("champion") / "workspace"
    root.mkdir()
    cells = {"season": list(SEASONS), "length": ["full"], "scratch": ["scratch"], "pretrained": []}
    (root / "params.yaml").write_text(yaml.safe_dump({**STUDY, "cells": cells}))
    workspace = Workspace(root)
    for season in SEASONS:
        path = workspace.season(season)
        write_season(path, season, [synthetic_tile(number, season) for number in range(10)])
        write_json(path / "validation.json", {"tiles": 10, "splits": {}, "rejected_tiles": 0, "trial": None})
    for seed in SEEDS:
        home = workspace.finetuned("2016", "full", "scratch") / f"seed-{seed}"
        home.mkdir(parents=True)
        save(home, build(Config.of("tiny", len(BANDS), len(CLASSES)), seed), CARD.model_copy(update={"seed": seed}))
        write_json(home / "history.json", {"labelled": dict.fromkeys(CLASSES[1:], 900)})
    write_json(workspace.cell("2016", "full", "scratch") / "scores.json", scores(dict.fromkeys(SEEDS, 0.0)))
    export(workspace, Silent())
    return root


@pytest.fixture(scope="module")
def true_scores(_exported: Path) -> dict[str, float]:
    """The challenger's own mIoU by season, as it is when it has become champion."""
    workspace = Workspace(_exported)
    predict, card = read_onnx(workspace.challenger / "model.onnx")
    found = score(Model(predict, card, {"labelled": {}}), workspace, SEASONS, Silent())
    return {season: tests["miou"] for season, tests in found.items()}


def scores(gains: dict[int, float], base: dict[str, float] | None = None, **apart: float) -> dict[str, Any]:
    """Scores of a cell whose seeds lie so far above `base` in mIoU; in a season named in `apart` so much more."""

    def test(season: str, gain: float) -> dict[str, Any]:
        miou = (base or {}).get(season, 0.5) + gain + apart.get(f"s{season}", 0.0)
        each = {"per_class": {name: dict.fromkeys(("iou", "f1", "precision", "recall"), miou) | {"support": 40}
                              for name in CLASSES[1:]}}  # fmt: skip
        return {"miou": miou, "oa": 0.9, "mf1": miou, "kappa": miou, "majority_oa": 0.4, **each}

    seeds = [{"seed": seed, "validation": -abs(seed - 7), "tests": {s: test(s, gain) for s in SEASONS}}
             for seed, gain in gains.items()]  # fmt: skip
    return {"season": "2016", "length": "full", "arm": "scratch", "simulated": True, "seeds": seeds,
            "cost": {"parameters": 1}}  # fmt: skip


class Shop:
    """A workspace, and a store of every version that was ever there."""

    def __init__(self, root: Path, base: dict[str, float]) -> None:
        self.workspace, self.base, self.store = Workspace(root), base, root.parent / "store"

    def challenge(self, gains: Sequence[float] = (0.2, 0.21, 0.19), **apart: float) -> str:
        """Let the challenger have these gains over the champion; gives its version."""
        told = scores(dict(zip(SEEDS, gains, strict=False)), self.base, **apart)
        write_json(self.workspace.challenger / "scores.json", told)
        version = digest(self.workspace.challenger)
        shutil.copytree(self.workspace.challenger, self.store / version, dirs_exist_ok=True)
        return version

    def restore(self, version: str, place: Path) -> None:
        if not (self.store / version).is_dir():
            raise BadInput(place, f"version {version} is gone", "fetch it")
        shutil.copytree(self.store / version, place, dirs_exist_ok=True)

    def promote(self, by: By = ADA, checks: Sequence[Finding] = ()) -> Any:
        return promote(Workspace(self.workspace.root), by, checks, self.restore, Silent())

    def rollback(self, version: str = "", why: str = "it takes maize for meadow") -> Any:
        return rollback(self.workspace, By("Bob", why), version, self.restore)

    def state(self) -> dict[str, str]:
        """Digests of all that a decision may change."""
        root = self.workspace.root
        paths = (root / "champions.yaml", root / "champion.dvc", self.workspace.champion)
        return {path.name: digest(path) for path in paths if path.exists()}

    def agrees(self) -> bool:
        """Whether directory, DVC's file and history name one version, and nothing half written lies about."""
        (out,) = yaml.safe_load((self.workspace.root / "champion.dvc").read_text())["outs"]
        entry = served(self.workspace)
        assert entry and not list(self.workspace.champion.parent.glob(".champion*"))
        return digest(self.workspace.champion) == out["md5"] == entry.version


@pytest.fixture
def shop(_exported: Path, true_scores: dict[str, float], tmp_path: Path) -> Shop:
    """A workspace with a challenger, and nothing served."""
    return Shop(Path(shutil.copytree(_exported, tmp_path / "workspace")), true_scores)


@pytest.fixture
def serving(shop: Shop) -> Shop:
    """One that serves its first champion."""
    shop.challenge((0.0, 0.0, 0.0))
    assert shop.promote().changed
    return shop


def test_the_first_champion_needs_its_checks_alone(shop: Shop) -> None:
    version = shop.challenge((0.0,))
    decision = shop.promote()
    assert decision.changed and decision.served.version == version and shop.agrees()
    entry = served(shop.workspace)
    assert entry and (entry.decision, entry.who, entry.why, entry.before) == ("promotion", "Ada", ADA.why, None)
    assert entry.cell == "2016-full-scratch" and set(entry.scores) == set(SEASONS) and entry.when.endswith("+00:00")
    assert [finding.what for finding in decision.findings] == ["ONNX equals torch", "better than a constant answer"]
    out = yaml.safe_load((shop.workspace.root / "champion.dvc").read_text())["outs"][0]
    assert out["nfiles"] == 6 and out["path"] == "models/champion"


@pytest.mark.parametrize("force", [False, True])
def test_a_check_that_did_not_pass_refuses_even_what_is_forced(shop: Shop, force: bool) -> None:
    shop.challenge()
    decision = shop.promote(By("Ada", "please", force), [Finding("checks passed", "store_is_valid blocked", False)])
    assert not decision.changed and decision.said == "refused: checks passed: store_is_valid blocked"
    assert shop.state() == {}


@pytest.mark.parametrize("force", [False, True])
def test_an_onnx_file_that_is_not_its_checkpoint_is_refused_even_if_forced(shop: Shop, force: bool) -> None:
    shop.challenge()
    home = shop.workspace.finetuned("2016", "full", "scratch") / "seed-7"
    save(home, build(Config.of("tiny", len(BANDS), len(CLASSES)), 99), CARD)
    decision = shop.promote(By("Ada", "please", force))
    assert decision.said.startswith("refused: ONNX equals torch: largest difference of a logit") and shop.state() == {}


def test_a_model_no_better_than_a_constant_answer_is_not_served(shop: Shop) -> None:
    told = scores({7: 0.0})
    told["seeds"][0]["tests"]["2016"]["majority_oa"] = 0.95
    write_json(shop.workspace.challenger / "scores.json", told)
    assert "refused: better than a constant answer: overall accuracy 0.900 in 2016" in shop.promote().said


def test_a_clearly_better_challenger_replaces_the_champion_and_the_history_says_all(serving: Shop) -> None:
    before, version = served(serving.workspace), serving.challenge()
    assert serving.promote().changed and serving.agrees()
    entry = served(serving.workspace)
    assert entry and before and (entry.version, entry.before) == (version, before.version)
    (better,) = (line for line in entry.compared if line.startswith("better on the agreed seasons"))
    assert "+20.0 points (+17.5 to +22.5, 3 seeds)" in better
    wanted = serving.base["2016"] + 0.2
    assert entry.scores["2016"].mean == pytest.approx(wanted) and entry.scores["2016"].sd == pytest.approx(0.01)


REFUSALS = {
    "the spread": ({"gains": (0.1, 0.3, 0.0)}, "better on the agreed seasons"),
    "no better": ({"gains": (0.0, 0.0, 0.0), "s2016": -1e-6}, "better on the agreed seasons"),
    "a season clearly worse": ({"s2017": -0.3, "s2016": 0.3}, "not clearly worse in 2017"),
    "the served seed": ({"gains": (-0.001, 0.0002, 0.0001), "s2016": 0.0008}, "the served seed is better"),
    "two seeds": ({"gains": (0.2, 0.2)}, "2 seeds give no spread to judge by: set finetune.seeds to 3 or more"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_clearly_better_is_refused_with_its_reason_and_changes_nothing(serving: Shop, case: str) -> None:
    change, why = REFUSALS[case]
    before = serving.state()
    serving.challenge(**change)
    decision = serving.promote()
    assert not decision.changed and decision.said.startswith("refused: ") and why in decision.said
    assert serving.state() == before


def test_a_person_may_overrule_the_comparison_with_a_reason(serving: Shop) -> None:
    version = serving.challenge((0.2, 0.2))
    with pytest.raises(BadInput, match="a forced promotion needs a reason"):
        serving.promote(By("Ada", "", True))
    decision = serving.promote(By("Ada", "new classes", True))
    assert decision.changed and decision.served.forced and decision.served.version == version and serving.agrees()


def test_only_the_agreed_seasons_decide(serving: Shop) -> None:
    serving.workspace = restudy(serving.workspace, champion={"seasons": ["2016"]})
    serving.challenge(s2017=-0.4)
    assert serving.promote().changed


def test_other_test_tiles_than_the_champions_are_named(serving: Shop) -> None:
    splits = {**STUDY["splits"], "test": {"take": ["validation"]}, "validation": {"take": ["test"]}}
    serving.workspace = restudy(serving.workspace, splits=splits, method={"excluded": "truth-and-predicted"})
    serving.challenge()
    said = serving.promote().said
    assert "refused: same test: splits, method.excluded: not as when the champion was made" in said


def test_a_champion_of_other_classes_cannot_be_compared_and_is_named(
    serving: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiny_study.CLASSES", ("unknown", "wheat", "maize", "rape"))
    path = serving.workspace.season("2016")
    shutil.rmtree(path)
    write_season(path, "2016", [synthetic_tile(number, "2016") for number in range(10)])
    serving.challenge()
    said = serving.promote().said
    assert "same test: the champion cannot be scored today: season 2016: its classes" in said and "'rape'" in said


def test_scores_that_no_served_model_has_are_refused(serving: Shop) -> None:
    serving.workspace = restudy(serving.workspace, method={"statistics": "split"})
    serving.challenge()
    assert "scored as served: method.statistics: split" in serving.promote().said


def test_what_is_served_already_is_no_second_decision(serving: Shop) -> None:
    before = serving.state()
    decision = serving.promote()
    assert not decision.changed and "is served already" in decision.said and serving.state() == before


def test_a_rollback_serves_the_bytes_of_before_and_says_who_when_and_why(serving: Shop) -> None:
    first = served(serving.workspace)
    serving.challenge()
    serving.promote()
    second = served(serving.workspace)
    shutil.rmtree(serving.workspace.challenger)
    assert serving.rollback().changed and serving.agrees()
    entry = served(serving.workspace)
    assert first and second and entry
    assert (entry.decision, entry.version, entry.before) == ("rollback", first.version, second.version)
    assert (entry.who, entry.why, entry.scores) == ("Bob", "it takes maize for meadow", first.scores)
    serving.rollback(second.version[:6])
    again = served(serving.workspace)
    assert again and again.version == second.version and serving.agrees()


def test_a_rollback_never_goes_back_to_what_was_taken_away(serving: Shop) -> None:
    first = served(serving.workspace)
    serving.challenge()
    serving.promote()
    serving.rollback()
    serving.challenge((0.06, 0.06, 0.07))
    assert serving.promote().changed
    serving.rollback()
    entry = served(serving.workspace)
    assert first and entry and entry.version == first.version and serving.agrees()


def test_another_challenger_than_the_one_whose_checks_were_looked_at_is_not_decided_on(serving: Shop) -> None:
    checked = serving.challenge()
    serving.challenge((0.06, 0.06, 0.07))
    before = serving.state()
    with pytest.raises(BadInput, match=f"no longer version {checked[:8]}, whose checks were looked at; ask again"):
        promote(serving.workspace, ADA, (), serving.restore, Silent(), checked)
    assert serving.state() == before


def test_a_version_that_was_rolled_back_comes_back_only_by_force(serving: Shop) -> None:
    serving.challenge()
    serving.promote()
    serving.rollback()
    said = serving.promote().said
    assert "refused: not rolled back before: Bob took this version away on" in said and "it takes maize" in said
    assert serving.promote(By("Ada", "the labels were wrong", True)).changed and serving.agrees()


def test_of_a_version_that_was_taken_away_and_served_again_the_last_word_counts(serving: Shop) -> None:
    first, second = digest(serving.workspace.champion), serving.challenge()
    serving.promote()
    serving.rollback()
    rollback(serving.workspace, By("Ada", "it does not take maize", False), second, serving.restore)
    past = read(serving.workspace)
    assert _rolled_back(past, second) == []
    (found,) = _rolled_back(past, first)
    assert "Ada took this version away" in found.found


def test_a_rollback_that_cannot_be_is_one_sentence_and_changes_nothing(serving: Shop) -> None:
    with pytest.raises(BadInput, match="no version was promoted before what is served"):
        serving.rollback()
    first = serving.state()
    with pytest.raises(BadInput, match="0 versions begin with 'ffff'; name one of"):
        serving.rollback("ffff")
    with pytest.raises(BadInput, match="a rollback needs a reason"):
        serving.rollback(why="")
    assert serving.state() == first
    serving.challenge()
    serving.promote()
    before = serving.state()
    entry = served(serving.workspace)
    assert entry and entry.before
    shutil.rmtree(serving.store / entry.before)
    with pytest.raises(BadInput, match=f"version {entry.before} is gone; fetch it"):
        serving.rollback()
    with pytest.raises(BadInput, match="is served already"):
        serving.rollback(entry.version)
    assert serving.state() == before


def test_bytes_that_are_not_the_version_are_not_served(serving: Shop) -> None:
    serving.challenge()
    serving.promote()
    before, entry = serving.state(), served(serving.workspace)
    assert entry and entry.before
    (serving.store / entry.before / "model.onnx").write_bytes(b"other")
    with pytest.raises(BadInput, match="in place of"):
        serving.rollback()
    assert serving.state() == before


def test_a_champion_changed_by_hand_is_put_back_before_anything_is_compared(serving: Shop) -> None:
    (serving.workspace.champion / "model.onnx").write_bytes(b"mine")
    assert not serving.promote().changed and serving.agrees()


def _killed(shop: Shop, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, word: str) -> None:
    """Run a rollback in a process that is killed as soon as a function has changed something that has `word` in it."""
    real = getattr(owner, name)

    def then_die(*given: Any) -> Any:
        done = real(*given)
        if done is not False and word in str(given):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    child = os.fork()
    if not child:
        monkeypatch.setattr(owner, name, then_die)
        try:
            shop.rollback()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


DEATHS = {
    "before the record": (Shop, "restore", "", True),
    "behind the record": (serving_module.history, "write", "", False),
    "behind champion.dvc": (serving_module, "_point", "", False),
    "between the renames": (Path, "rename", ".old", False),
}


@pytest.mark.parametrize("where", DEATHS)
def test_killed_at_any_moment_it_is_as_before_or_finished_by_the_next_decision(
    serving: Shop, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    serving.challenge()
    serving.promote()
    owner, name, word, nothing_done = DEATHS[where]
    first, second = (entry.version for entry in serving_module.history.read(serving.workspace))
    _killed(serving, monkeypatch, owner, name, word)
    entry = served(serving.workspace)
    assert entry and entry.version == (second if nothing_done else first)
    serving.rollback()
    assert serving.agrees()
    entry = served(serving.workspace)
    assert entry and entry.version == first, "what was decided is finished, and nothing beyond"
    assert [entry.decision for entry in serving_module.history.read(serving.workspace)].count("rollback") == 1


def test_of_two_promotions_at_once_one_wins(shop: Shop) -> None:
    shop.challenge()
    with ThreadPoolExecutor(2) as both:
        decisions = list(both.map(lambda _: shop.promote(), range(2)))
    assert sorted(decision.changed for decision in decisions) == [False, True]
    assert len(serving_module.history.read(shop.workspace)) == 1 and shop.agrees()


def test_a_broken_history_is_named_and_nothing_is_lost(serving: Shop) -> None:
    path = serving.workspace.root / "champions.yaml"
    text = path.read_text()
    for broken, match in (
        ("<<<<<<< HEAD\n" + text, "not a list of decisions"),
        (text.replace("decision: promotion", "decision: guess"), "field 0.decision"),
    ):
        path.write_text(broken)
        with pytest.raises(BadInput, match=rf"champions.yaml.*{match}"):
            serving.promote()
        assert path.read_text() == broken
    path.unlink()
    with pytest.raises(BadInput, match=r"champions.yaml: missing, though champion.dvc says"):
        serving.promote()


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A workspace in git, with somebody's identity and something staged."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    root = shop.workspace.root
    (root / ".gitignore").write_text("/data/\n/models/\n/reports/\n.stcln/\n")
    (root / "code.yaml").write_text("{}\n")
    _git(root, "init", "-q")
    _git(root, "config", "user.name", "Ada")
    _git(root, "config", "user.email", "ada@example.org")
    _git(root, "add", ".gitignore", "params.yaml")
    _git(root, "commit", "-qm", "a study")
    _git(root, "add", "code.yaml")
    return shop


def test_a_decision_is_one_revision_of_the_two_files_alone(kept: Shop) -> None:
    kept.challenge()
    root, decision = kept.workspace.root, kept.promote()
    assert decision.revision == f"committed as {_git(root, 'rev-parse', '--short', 'HEAD')}"
    assert set(_git(root, "show", "--name-only", "--format=", "HEAD").split()) == {"champion.dvc", "champions.yaml"}
    assert ADA.why in _git(root, "log", "-1", "--format=%B") and _git(root, "status", "--porcelain") == "A  code.yaml"


@pytest.mark.parametrize("lacking", ["identity", "commit"])
def test_where_git_knows_nobody_or_has_no_commit_the_decision_is_a_revision_all_the_same(
    kept: Shop, lacking: str
) -> None:
    root = kept.workspace.root
    if lacking == "commit":
        shutil.rmtree(root / ".git")
        _git(root, "init", "-q")
    else:
        _git(root, "config", "--unset", "user.email")
    kept.challenge()
    assert kept.promote().revision.startswith("committed as ")
    assert set(_git(root, "show", "--name-only", "--format=", "HEAD").split()) == {"champion.dvc", "champions.yaml"}
    assert _git(root, "log", "-1", "--format=%an <%ae>") == "stcln <stcln@localhost>"


@pytest.mark.parametrize("lacking", ["git", "checkout"])
def test_where_git_cannot_take_it_the_files_are_left_and_that_is_said(kept: Shop, lacking: str) -> None:
    root = kept.workspace.root
    if lacking == "git":
        shutil.rmtree(root / ".git")
    else:
        _git(root, "rm", "-q", "-f", "code.yaml")
    kept.challenge()
    decision = kept.promote()
    assert decision.changed and kept.agrees()
    assert decision.revision.endswith("commit champion.dvc and champions.yaml yourself")


def test_a_commit_that_was_not_made_is_made_up_for(kept: Shop) -> None:
    root = kept.workspace.root
    (root / ".git").rename(root / "away")
    kept.challenge()
    assert kept.promote().revision.startswith("not committed")
    (root / "away").rename(root / ".git")
    assert kept.promote().revision.startswith("committed as ") and "champions.yaml" in _git(root, "ls-files")


def test_the_gain_is_the_mean_over_seasons_by_seed() -> None:
    told = scores({7: 0.1, 8: 0.2, 9: 0.3}, {"2016": 0.4, "2017": 0.6}, s2017=0.1)
    better, own, *seasons = judge(told, 9, {"2016": 0.4, "2017": 0.6})
    assert "mIoU 0.750, the champion's 0.500; +25.0 points (+0.2 to +49.8, 3 seeds)" in better.found and better.passed
    assert own.found == "+35.0 points" and [finding.what for finding in seasons] == [
        "not clearly worse in 2016", "not clearly worse in 2017",
    ]  # fmt: skip


def test_nothing_is_served_where_there_is_no_challenger(shop: Shop) -> None:
    shutil.rmtree(shop.workspace.challenger)
    with pytest.raises(BadInput, match="no challenger is here; run the study"):
        shop.promote()
    assert served(shop.workspace) is None and shop.state() == {}


def test_where_there_is_no_git_it_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert serving_module.identity(tmp_path) is None
