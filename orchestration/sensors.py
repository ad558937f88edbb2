"""What Dagster watches: the ledger, and the source."""

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack

import dagster as dg
import yaml

from assets import Plan
from assets.plan import SEASONS
from assets.stage import Notifier
from orchestration import outside
from orchestration.seasons.arrival import Memory, launched, look
from orchestration.seasons.register import register
from orchestration.study import JOBS
from stcln.errors import BadInput
from stcln.runs import alone
from stcln.workspace import Workspace

BUDGET = 40.0
"""Seconds a tick may spend; Dagster ends one after 60."""
LOOK = 300
"""Seconds between two looks at a source: an upload that pauses for less is not taken for whole."""


def ledger_sensor(plan: Plan) -> dg.SensorDefinition:
    """Reports what `dvc repro` or `git checkout` have made current, so that each way sees the others."""
    root = plan.workspace.root

    @dg.sensor(
        name="ledger", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watches dvc.lock and reports what was made or restored outside Dagster, with DVC's data versions.",
    )  # fmt: skip
    def ledger(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        lock = root / "dvc.lock"
        text = lock.read_bytes() if lock.exists() else b""
        cursor = hashlib.md5(text).hexdigest()
        now = Plan(Workspace(root))
        known = set(context.instance.get_dynamic_partitions(SEASONS))
        new = [season for season in now.study.cells.season if season not in known]
        if cursor == context.cursor and not new:
            return dg.SkipReason("dvc.lock is as it was")
        graph = context.repository_def.asset_graph if context.repository_def else None
        assert graph is not None
        all_told = outside.report(now, yaml.safe_load(text) or {}, graph, context.instance, BUDGET)
        return dg.SensorResult(
            dynamic_partitions_requests=[now.season.build_add_request(new)] if new else [],
            cursor=cursor if all_told else context.cursor,
        )

    return ledger


def new_season_sensor(plan: Plan, job: dg.JobDefinition, notifier: Notifier) -> dg.SensorDefinition:
    """Takes over a season that has appeared in the source. Off until switched on, since it spends hours."""
    workspace = plan.workspace

    @dg.sensor(
        name="new_season", job=job, minimum_interval_seconds=LOOK,
        description="Looks for seasons in the source, a directory or a bucket, that the study does not have; registers "
        "each that is whole as a partition and in params.yaml (a change to commit) and launches its cells.",
    )  # fmt: skip
    def new_season(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now, memory = Workspace(workspace.root), Memory.of(context.cursor)
        try:
            found = look(now, memory)
            if found.ready and not _registered(now, found.ready):
                return dg.SkipReason(f"Season {', '.join(found.ready)} waits until the run of the study has ended.")
        except BadInput as error:
            return dg.SkipReason(str(error))
        for line in found.news:
            notifier.tell(f"{now.study.name}: {line.partition(':')[0]}", line, context.log.warning)
        if not found.ready:
            nothing = f"No season in {now.study.dataset.source} beyond {', '.join(now.study.cells.season)}."
            return dg.SensorResult(skip_reason=" ".join(found.said) or nothing, cursor=found.memory.text())
        return dg.SensorResult(
            dynamic_partitions_requests=[plan.season.build_add_request(list(found.ready))],
            run_requests=[
                dg.RunRequest(run_key=f"season-{season}-{version}", partition_key=season)
                for season, version in found.ready.items()
            ],
            cursor=launched(found.memory, found.ready).text(),
        )

    return new_season


def _registered(workspace: Workspace, seasons: Iterable[str]) -> bool:
    """Add seasons to the study, unless it runs: what reads `cells.season` would be refused at its end."""
    with ExitStack() as held:
        try:
            held.enter_context(alone(workspace, JOBS))
        except BadInput:
            return False
        register(workspace, seasons)
    return True
