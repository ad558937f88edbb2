"""The whole study in one command, without a daemon: `python -m orchestration.study [--who NAME]`.

Every asset partition is materialised behind all that it reads, each in a Dagster run of its own, in this process,
recorded in the workspace's Dagster home; the UI shows them afterwards. What stands and is recorded is passed over. At
the end the challenger may become champion.
"""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from assets import Plan
from assets.plan import SEASONS, Step
from assets.recorded import recorded_well
from assets.show import page
from orchestration.champion import settled
from orchestration.home import make_home, workspace_root
from orchestration.notify import STAGE_TAG, Addresses
from orchestration.resources import Resources, resources
from orchestration.seasons.due import step_waits
from orchestration.single import Refused, asset_job, execute, reason, verdicts
from stcln.errors import BadInput
from stcln.report.collect import METRICS
from stcln.runs import alone
from stcln.spread import Spread
from stcln.storage import read_json
from stcln.workspace import Workspace

Say = Callable[[str], None]
ADVICE = dg.AssetKey("season_drift")
SHARED = ("raw_archive", "season_store", "pretrained_encoder", "season_drift")
JOBS = "jobs"
"""What a process holds that works on a whole study or season."""
AGAIN = {"ops": {"raw_archive": {"config": {"again": True}}}}


def materialise(
    plan: Plan,
    steps: Sequence[Step],
    instance: dg.DagsterInstance,
    parts: Resources,
    say: Say,
    fetch_again: bool = False,
    today: date | None = None,
) -> int:
    """Materialise steps that are due and do not stand, in their order; one process of a workspace at a time.

    Args:
        plan: The study.
        steps: What to materialise, upstream first.
        instance: Where runs are recorded.
        parts: The resources `ledger` and `runner`.
        say: Told a line a step.
        fetch_again: Fetch although an archive stands.
        today: The day that says what is due; None: the clock's.

    Returns:
        How many runs it took.

    Raises:
        Refused: A step failed, or a blocking check did not pass. Advice that failed is told and passed over.
    """
    with alone(plan.workspace, JOBS, wait=True):
        return _materialise(plan, steps, instance, parts, say, fetch_again, today or datetime.now(UTC).date())


def _materialise(
    plan: Plan, steps: Sequence[Step], instance: dg.DagsterInstance, parts: Resources, say: Say, fetch_again: bool,
    today: date,
) -> int:  # fmt: skip
    register_seasons(plan, instance)
    _settle_the_killed(plan, instance)
    job, runs = asset_job(plan, parts), 0
    before = parts["ledger"].versions([step.stage for step in steps])
    for number, step in enumerate(steps, 1):
        again = fetch_again and step.stage == "fetch"
        version = before[step.stage]
        if version and runs:  # what has run since may have changed what it reads
            version = parts["ledger"].version(step.stage)
        if version and not again and recorded_well(step, version, instance):
            continue
        if why := step_waits(plan.workspace, step, today):
            say(f"[{number}/{len(steps)}] {step} is not due: {why}")
            continue
        say(f"[{number}/{len(steps)}] {step}")
        began = time.perf_counter()
        result = execute(job, instance, step.asset, AGAIN if again else {}, step.partition, step.stage)
        runs += 1
        for line in verdicts(result):
            say(f"    {line}")
        if not result.success and step.asset == ADVICE:
            say(f"    no advice: {reason(result)}")
        elif not result.success:
            raise Refused(f"{step}: {reason(result)}")
        say(f"    {time.perf_counter() - began:.1f} s")
    return runs


def _settle_the_killed(plan: Plan, instance: dg.DagsterInstance) -> None:
    """Report as failed what a process that was killed has left running: who holds the workspace's jobs is alone."""
    stages = {step.stage for step in plan.steps()}
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])):
        if run.tags.get(STAGE_TAG) in stages:
            instance.report_run_failed(run, "Its process was killed.")


def register_seasons(plan: Plan, instance: dg.DagsterInstance) -> None:
    """Make every season of params.yaml a partition; one process at a time, since Dagster fails where two add one."""
    with alone(plan.workspace, "register_seasons", wait=True):
        instance.add_dynamic_partitions(SEASONS, list(plan.study.cells.season))


def season_steps(plan: Plan, season: str) -> list[Step]:
    """What one season's cells need and its drift: its store, and those of other seasons that are missing.

    A store that is there is left to the study, so that a season that has gone from the source stands in no other's way.
    """

    def wanted(step: Step) -> bool:
        if step.keys.get("season", season) != season:
            return step.stage.startswith("prepare@") and not plan.workspace.season(step.keys["season"]).is_dir()
        return "length" not in step.keys and step.asset.to_user_string() in SHARED

    return [step for step in plan.steps() if wanted(step)]


def cell_steps(plan: Plan, season: str) -> list[Step]:
    """One season's cells, and the report."""
    return [
        step
        for step in plan.steps()
        if step.stage == "report" or ("length" in step.keys and step.keys["season"] == season)
    ]


def main() -> int:
    """Materialise the study of the workspace, print its headline, its table and where its report lies."""
    told = argparse.ArgumentParser("study", description="Materialise the study of the workspace STCLN_WORKSPACE.")
    told.add_argument("--who", default="", help="who lets the challenger be served; else whom git or the system names")
    asked = told.parse_args()
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    logging.getLogger("dvc").setLevel(logging.WARNING)
    plan = Plan(Workspace(workspace_root()))
    began = time.perf_counter()
    try:
        steps, parts = plan.steps(), resources(plan.workspace.root)
        say(f"study {plan.study.name}: {len(steps)} assets and partitions in {plan.workspace.root}")
        with dg.DagsterInstance.from_config(str(make_home(plan.workspace.root))) as instance:
            runs = materialise(plan, steps, instance, parts, say)
            decided = settled(plan, instance, parts, asked.who)
    except (BadInput, Refused) as error:
        print(f"study: {error}", file=sys.stderr)
        Addresses().tell(f"{plan.workspace.root.name}: the study failed", str(error), say)
        return 2
    say(brief(read_json(plan.workspace.report / "report.json")))
    say(f"champion: {decided}")
    say(f"report: {page(plan.workspace)}")
    say(f"{len(steps) - runs} of {len(steps)} stood or were not due, {runs} run, {time.perf_counter() - began:.0f} s")
    return 0


def brief(report: Mapping[str, Any]) -> str:
    """The headline and Table 1 of a report.json, as text."""
    lines = [["trained", "tested", "length", "arm", "OA", "mIoU", "macro-F1", "kappa"]]
    for row in report["table"]:
        cells = [Spread(**row["scores"][metric]).text() for metric in METRICS]
        lines.append([row["season"], row["tested"], row["length"], row["arm"], *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
    title = report["title"] + (" (simulated data)" if report["simulated"] else "")
    return "\n".join(["", title, report["finding"], report["detail"], "", *(line.rstrip() for line in padded), ""])


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
