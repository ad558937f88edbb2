"""What is served: models/champion, changed by nothing but a decision, a promotion or a rollback, that is recorded.

Who runs a decision, and where the bytes of old versions come from, is handed in.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stcln import runs
from stcln.champion import history
from stcln.champion.finding import Finding
from stcln.champion.history import Entry, Score
from stcln.champion.serving import Restore, revision, serve, settle
from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.model_card import spread
from stcln.storage import digest, read_json
from stcln.workspace import Workspace

__all__ = ["By", "Decision", "Entry", "Finding", "Restore", "promote", "rollback", "served"]

LOCK = "champion"


@dataclass(frozen=True)
class By:
    """Who decides, and why. `force`: although the comparison speaks against it; the checks hold all the same."""

    who: str
    why: str
    force: bool = False


@dataclass(frozen=True)
class Decision:
    """What came of a promotion or a rollback.

    Attributes:
        changed: Whether another version is served than before.
        said: The decision, in a sentence or two.
        findings: What was looked at.
        served: The entry of what is served now; None where nothing is.
        revision: What became of it in git; empty where nothing changed.
    """

    changed: bool
    said: str
    findings: tuple[Finding, ...]
    served: Entry | None
    revision: str = ""


def served(workspace: Workspace) -> Entry | None:
    """The decision that holds."""
    past = history.read(workspace)
    return past[-1] if past else None


def promote(
    workspace: Workspace, by: By, checks: Sequence[Finding], restore: Restore, reporter: Reporter,
    checked: str | None = None,
) -> Decision:  # fmt: skip
    """Let the challenger replace the champion if its checks pass and it is better; the first one needs the checks only.

    Args:
        workspace: Where.
        by: Who asks, and why.
        checks: What is known of the challenger's chain.
        restore: Brings old versions.
        reporter: Is told how the champion is scored.
        checked: The version of the challenger that `checks` are of.

    Raises:
        BadInput: There is no challenger, or another than was checked; a promotion is forced without a reason, or files
            that decide are broken.
    """
    from stcln.champion.gate import examine  # torch comes with it, which Dagster's definitions do without

    if by.force and not by.why.strip():
        raise BadInput("why", "a forced promotion needs a reason", "say why")
    with runs.alone(workspace, LOCK, wait=True):
        if not by.force:  # a champion whose bytes are gone can still be replaced
            settle(workspace, restore)
        past, version = history.read(workspace), digest(challenger(workspace))
        if checked not in (None, version):
            problem = f"it is no longer version {checked[:8]}, whose checks were looked at"
            raise BadInput(workspace.challenger, problem, "ask again")
        if past and past[-1].version == version:
            return Decision(
                False, f"{_name(past[-1])} is served already", (), past[-1], revision(workspace, "champion")
            )
        findings = [*checks]
        if all(finding.passed for finding in findings if finding.firm):
            findings += examine(workspace, past, version, reporter)
        against = [finding for finding in findings if not finding.passed and (finding.firm or not by.force)]
        if against:
            said = f"refused: {'; '.join(map(str, against))}"
            return Decision(False, said, tuple(findings), past[-1] if past else None)
        entry = _promotion(workspace, by, version, past, findings)
        serve(workspace, entry, lambda place: _copy(workspace, place))
        return _decided(workspace, entry, findings)


def challenger(workspace: Workspace) -> Path:
    """The challenger's directory.

    Raises:
        BadInput: There is none.
    """
    if not (workspace.challenger / "card.json").is_file():
        raise BadInput(workspace.challenger, "no challenger is here", "run the study, or `python -m stcln export`")
    return workspace.challenger


def rollback(workspace: Workspace, by: By, version: str, restore: Restore) -> Decision:
    """Serve an earlier version again, without training; or finish a decision that was broken off, and no more.

    Args:
        workspace: Where.
        by: Who asks, and why.
        version: The first characters of the version; empty: the one in whose place the served one was promoted.
        restore: Brings its bytes.

    Raises:
        BadInput: No reason is given, there is no such version, it is served already, or its bytes are gone.
    """
    if not by.why.strip():
        raise BadInput("why", "a rollback needs a reason", "say why")
    with runs.alone(workspace, LOCK, wait=True):
        past = history.read(workspace)
        if _broken_off(workspace, restore):
            said = f"{_name(past[-1])} is served again, as decided on {past[-1].when}; what lay there did not agree"
            return Decision(True, said, (), past[-1], revision(workspace, f"Champion: {said}"))
        wanted = _earlier(workspace, past, version)
        changes: dict[str, Any] = {
            "decision": "rollback", "when": _now(), "who": by.who, "why": by.why, "forced": False,
            "before": past[-1].version, "compared": (),
        }  # fmt: skip
        entry = wanted.model_copy(update=changes)
        serve(workspace, entry, lambda place: restore(entry.version, place))
        return _decided(workspace, entry, ())


def _promotion(workspace: Workspace, by: By, version: str, past: Sequence[Entry], findings: Sequence[Finding]) -> Entry:
    card, scores = read_json(workspace.challenger / "card.json"), read_json(workspace.challenger / "scores.json")
    means = {season: spread(scores, season, "miou") for season in workspace.study.agreed}
    return Entry(
        decision="promotion", version=version, cell="-".join((card["season"], card["length_name"], scores["arm"])),
        seed=card["seed"], when=_now(), who=by.who, why=by.why,
        forced=by.force and not all(finding.passed for finding in findings),
        before=past[-1].version if past else None, compared=tuple(map(str, findings)),
        scores={season: Score(mean=found.mean, sd=found.sd, n=found.n) for season, found in means.items()},
    )  # fmt: skip


def _earlier(workspace: Workspace, past: Sequence[Entry], version: str) -> Entry:
    """The promotion of the version to go back to."""
    made = list({entry.version: entry for entry in past if entry.decision == "promotion"}.values())
    where = history.path_of(workspace)
    known = ", ".join(entry.version[:8] for entry in made) or "nothing"
    if version:
        fits = [entry for entry in made if entry.version.startswith(version)]
        if len(fits) != 1:
            raise BadInput(where, f"{len(fits)} versions begin with {version!r}", f"name one of {known}")
        if fits[0].version == past[-1].version:
            raise BadInput(where, f"{_name(fits[0])} is served already", "name another version")
        return fits[0]
    promoted = [entry for entry in past if entry.decision == "promotion" and entry.version == past[-1].version]
    before = promoted[-1].before if promoted else None
    if before is None:
        raise BadInput(where, "no version was promoted before what is served", f"name a version; there is {known}")
    return next(entry for entry in made if entry.version == before)


def _broken_off(workspace: Workspace, restore: Restore) -> bool:
    """Finish a decision that was broken off; whether there was one. What is gone anyhow is given up by a rollback."""
    try:
        return settle(workspace, restore)
    except BadInput:
        return False


def _copy(workspace: Workspace, place: Path) -> None:
    shutil.copytree(workspace.challenger, place, dirs_exist_ok=True)


def _decided(workspace: Workspace, entry: Entry, findings: Sequence[Finding]) -> Decision:
    told = "first of all" if entry.before is None else f"in place of {entry.before[:8]}"
    said = f"{entry.decision}: {_name(entry)} is served, {told}. {entry.who}: {entry.why}"
    return Decision(True, said, tuple(findings), entry, revision(workspace, f"Champion {said}"))


def _name(entry: Entry) -> str:
    return f"{entry.cell} seed {entry.seed}, version {entry.version[:8]},"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
