"""What is served: two assets that decide it. They are no stages: DVC holds what they decided, and cannot repeat it."""

import getpass
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG

from assets.plan import OWNERS, Plan, Step
from assets.recorded import recorded_well
from assets.show import Shown
from assets.stage import Ledger, Notifier
from stcln import model_card
from stcln.champion import By, Decision, Finding, challenger, promote, rollback
from stcln.champion.serving import identity
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.storage import read_json

CHECK = "challenger_is_better"
USER = "user"
"""The tag of a run that names who started it."""

Made = dg.MaterializeResult[Any]


class Promotion(dg.Config):
    """Why the challenger should be served."""

    why: str = ""
    """Needed where it is forced."""
    who: str = ""
    """Who decides; empty: the run's tag `user`, else whom git or the system names."""
    force: bool = False
    """Serve it although the comparison speaks against it, for the reason given. Its checks hold all the same."""


class Rollback(dg.Config):
    """Why an earlier model should be served again."""

    why: str = ""
    """Needed: without it nothing is rolled back."""
    who: str = ""
    """Who decides; empty: the run's tag `user`, else whom git or the system names."""
    version: str = ""
    """The first characters of a version in champions.yaml; empty: the one promoted before what is served."""


def champion(plan: Plan) -> dg.AssetsDefinition:
    """The asset of a promotion."""
    better = dg.AssetCheckSpec(
        CHECK, asset="champion", description="The challenger passed its checks and is better on the agreed seasons."
    )

    @dg.asset(
        deps=["challenger_onnx"], group_name="served", kinds={"onnx", "dvc"}, owners=OWNERS, check_specs=[better],
        output_required=False,
    )  # fmt: skip
    def champion(
        context: dg.AssetExecutionContext,
        config: Promotion,
        ledger: dg.ResourceParam[Ledger],
        notifier: dg.ResourceParam[Notifier],
    ) -> Iterator[Made | dg.AssetCheckResult]:
        """The model that is served. The challenger replaces it if all its checks pass and it is clearly better.

        A refusal is no failure: the check says what spoke against it, and everything stays as it was.
        """
        try:
            why = config.why or ("" if config.force else "asked for in Dagster")
            by = By(_who(context, plan, config.who), why, config.force)
            checks, version = _chain(plan, ledger, context)
            decision = promote(plan.workspace, by, checks, ledger.restore, Silent(), version)
        except BadInput as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        _tell(context, decision, plan, notifier)
        refused = decision.said.startswith("refused")
        yield dg.AssetCheckResult(
            check_name=CHECK, passed=not refused, severity=dg.AssetCheckSeverity.WARN, description=decision.said,
            metadata={"findings": _table(decision)},
        )  # fmt: skip
        if not refused:
            yield _result(plan, decision)

    return champion


def champion_rollback(plan: Plan) -> dg.AssetsDefinition:
    """The asset of a rollback."""

    @dg.asset(deps=["champion"], group_name="served", kinds={"onnx", "dvc"}, owners=OWNERS)
    def champion_rollback(
        context: dg.AssetExecutionContext,
        config: Rollback,
        ledger: dg.ResourceParam[Ledger],
        notifier: dg.ResourceParam[Notifier],
    ) -> Made:
        """Serves an earlier champion again, from DVC's cache or remote. It needs a reason: `why`, in the launchpad."""
        try:
            by = By(_who(context, plan, config.who), config.why)
            decision = rollback(plan.workspace, by, config.version, ledger.restore)
        except BadInput as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        _tell(context, decision, plan, notifier)
        made = _result(plan, decision)
        assert made.data_version is not None
        tags = {DATA_VERSION_TAG: made.data_version.value, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
        context.log_event(dg.AssetMaterialization("champion", metadata=made.metadata, tags=tags))  # so that it shows
        return made

    return champion_rollback


def _who(context: dg.AssetExecutionContext, plan: Plan, named: str) -> str:
    user = context.run.tags.get(USER)
    if named and user not in (None, named):
        return f"{named} (entered by {user})"
    return named or user or identity(plan.workspace.root) or getpass.getuser()


def _chain(plan: Plan, ledger: Ledger, context: dg.AssetExecutionContext) -> tuple[list[Finding], str | None]:
    """Whether every step from the archive to the challenger stands, and passed its checks; the challenger's version.

    What the decision reads is then here, wherever it was made.
    """
    steps = _steps(plan)
    versions = ledger.versions([step.stage for step in steps])
    stale = [str(step) for step in steps if versions[step.stage] is None]
    unproven = [
        str(step)
        for step in steps
        if (version := versions[step.stage]) and not recorded_well(step, version, context.instance, context.run.run_id)
    ]
    stands = f"stale: {', '.join(stale)}; run the study" if stale else f"{len(steps)} steps from archive to challenger"
    passed = f"no run that ended well recorded {', '.join(unproven)}; run the study" if unproven else "none blocked"
    ledger.bring_whole([step.stage for step in steps if versions[step.stage] and _is_read(step)])
    findings = [Finding("as recorded", stands, not stale), Finding("checks passed", passed, not unproven)]
    return findings, versions["export"]


def _is_read(step: Step) -> bool:
    """Whether a decision reads all of what a step has made: seasons to test on, models to compare."""
    return step.stage.startswith(("prepare@", "scratch@", "finetune@", "export"))


def _steps(plan: Plan) -> list[Step]:
    """The challenger's step and those it was made by: its own cell's, not those of the cells it was chosen from."""
    scores = read_json(challenger(plan.workspace) / "scores.json")
    cell = {key: scores[key] for key in ("season", "length", "arm")}
    start = ["pretrained_encoder"] * (cell["arm"] in plan.study.cells.pretrained)
    shared = ("raw_archive", "season_store", *start, "challenger_onnx")
    return [step for step in plan.steps() if step.asset.to_user_string() in shared or step.keys == cell]


def _tell(context: dg.AssetExecutionContext, decision: Decision, plan: Plan, notifier: Notifier) -> None:
    context.log.info(f"{decision.said}. {decision.revision}")
    if decision.changed:
        notifier.tell(f"{plan.study.name}: another model is served", decision.said, context.log.warning)


def _table(decision: Decision) -> dg.TableMetadataValue:
    """What was looked at, a row each; none were, where the challenger is served already."""
    rows = [
        dg.TableRecord({"looked at": found.what, "found": found.found, "speaks for it": found.passed})
        for found in decision.findings
    ]
    columns = [dg.TableColumn("looked at"), dg.TableColumn("found"), dg.TableColumn("speaks for it", "bool")]
    return dg.MetadataValue.table(rows, dg.TableSchema(columns))


def _result(plan: Plan, decision: Decision) -> Made:
    entry, home = decision.served, plan.workspace.champion
    assert entry is not None
    shown: Shown = {
        "decision": decision.said, "cell": entry.cell, "seed": entry.seed, "who": entry.who, "why": entry.why,
        "when": entry.when, "forced": entry.forced, "revision": decision.revision,
        **{f"miou_{season}": score.mean for season, score in entry.scores.items()},
        "path": dg.MetadataValue.path(home),
        "model_card": dg.MetadataValue.md((home / model_card.NAME).read_text()),
    }  # fmt: skip
    return dg.MaterializeResult(data_version=dg.DataVersion(entry.version), metadata=shown)
