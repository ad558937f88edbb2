"""What a service has beside a workspace on one machine: runs that are watched, small objects in its bucket."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psutil
import pytest
import real_study
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from seaweed import Seaweed
from tiny_study import restudy
from toy_workspace import Toy

from orchestration import code_server, jobs, launcher, study
from orchestration.coordinator import HEADER, NamingRunCoordinator
from orchestration.definitions import build_defs
from orchestration.notify import STAGE_TAG
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration
CHECKOUT = Path(__file__).parents[2]


def test_what_an_op_hands_on_lies_in_the_services_bucket(
    toy: Toy, s3: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.bucket("small")
    monkeypatch.setenv("STCLN_BUCKET", "small")
    monkeypatch.setattr(jobs, "materialise", lambda *_: 0)
    monkeypatch.setattr(jobs, "settled", lambda *_: "nothing")
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(toy.root, toy.resources).get_job_def("study")
        result = job.execute_in_process(instance=instance)
    assert result.success
    (found,) = s3.system.glob(f"small/objects/storage/{result.run_id}/run_study/result")
    assert s3.system.size(found) > 0


@pytest.mark.parametrize(
    ("door", "tags", "user"),
    [
        ("maria", {"user": "the minister"}, "maria"),
        (None, {"user": "the minister", "dagster/backfill": "abc"}, "backfill abc"),
        (None, {"user": "eve"}, "eve"),
        (None, {}, None),
    ],
)
def test_a_run_is_of_whom_the_proxy_names_and_one_of_a_backfill_of_no_person(
    monkeypatch: pytest.MonkeyPatch, door: str | None, tags: dict[str, str], user: str | None
) -> None:
    monkeypatch.setattr(dg.QueuedRunCoordinator, "submit_run", lambda self, context: context.dagster_run)
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.add_run(dg.DagsterRun("job", tags=tags))
        coordinator = NamingRunCoordinator()
        coordinator.register_instance(instance)
        asked = {HEADER: door}
        context: Any = SimpleNamespace(dagster_run=run, get_request_header=asked.get)
        coordinator.submit_run(context)
        found = instance.get_run_by_id(run.run_id)
    assert found and found.tags.get("user") == user


def test_of_the_jobs_one_begins_at_a_time(toy: Toy, tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "infra/dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
    assert queue and queue.tag_concurrency_limits == [{"key": "stcln/turn", "limit": 1}]
    for name in ("study", "season"):
        assert "stcln/turn" in build_defs(toy.root, toy.resources).resolve_job_def(name).tags


class Server:
    """A code server as the launcher sees it."""

    name: str | None = "first"

    def get_server_id(self) -> str:
        if self.name is None:
            raise DagsterUserCodeUnreachableError("away")
        return self.name


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[launcher.WatchedRunLauncher, Server, dg.DagsterRun]]:
    """A launcher, the server that it started a run on, and the run."""
    server, starts = Server(), launcher.WatchedRunLauncher()
    monkeypatch.setattr(starts, "_get_grpc_client_for_termination", lambda run_id: server)
    yield starts, server, dg.DagsterRun("job", tags={launcher.SERVER: "first"})


def test_a_run_lives_while_the_server_that_started_it_answers(watched: Any) -> None:
    starts, _, run = watched
    assert starts.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_is_lost_when_another_server_answers_in_its_place(watched: Any) -> None:
    starts, server, run = watched
    server.name = "second"
    assert starts.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND


def test_a_server_may_be_silent_for_a_while_and_not_for_ever(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, server, run = watched
    now = time.monotonic()
    monkeypatch.setattr(launcher.time, "monotonic", lambda: now)
    server.name = None
    assert starts.check_run_worker_health(run).status is WorkerStatus.RUNNING
    now += launcher.PATIENCE - 1
    assert starts.check_run_worker_health(run).status is WorkerStatus.RUNNING
    now += 2
    assert starts.check_run_worker_health(run).status is WorkerStatus.FAILED
    server.name = "first"
    assert starts.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_that_no_code_server_started_is_not_judged(watched: Any) -> None:
    starts, server, _ = watched
    server.name = None
    assert starts.check_run_worker_health(dg.DagsterRun("job")).status is WorkerStatus.RUNNING


def test_what_a_killed_study_has_left_running_is_reported_as_failed_by_the_next(toy: Toy) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        left = dg.DagsterRun("left", tags={STAGE_TAG: "fetch"}, status=dg.DagsterRunStatus.STARTED)
        others = dg.DagsterRun("others", tags={STAGE_TAG: "champion"}, status=dg.DagsterRunStatus.STARTED)
        for run in (left, others):
            instance.add_run(run)
        study.materialise(toy.plan, [], instance, toy.resources, print)
        states = {run.job_name: run.status.value for run in instance.get_runs()}
    assert states["left"] == "FAILURE" and states["others"] == "STARTED"


RUN = """
import subprocess, sys
words = "finetune --season 2016 --length d6 --arm scratch".split()
subprocess.run([sys.executable, "-m", "orchestration.step", *words], stderr=open("said", "w"))
"""
SERVER = "import subprocess, sys; subprocess.run([sys.executable, 'run.py', 'spawn' '_main('])"


def test_a_code_server_that_is_told_to_end_lets_the_steps_of_its_runs_save_and_then_is_gone(
    tiny_workspace: Workspace,
) -> None:
    workspace = restudy(tiny_workspace, finetune={"epochs": 5000, "seeds": 1})
    (workspace.root / "run.py").write_text(RUN)
    server = subprocess.Popen([sys.executable, "-c", SERVER], cwd=workspace.root, env=real_study.ENVIRONMENT)
    while not [*workspace.root.glob(".stcln/resume/*/seed-*/[0-9]*/state.json")]:
        assert server.poll() is None
        time.sleep(0.02)
    of_its_runs = psutil.Process(server.pid).children(recursive=True)
    code_server.end(psutil.Process(server.pid))
    assert "stopped by SIGTERM; run it again to go on." in (workspace.root / "said").read_text()
    assert server.wait(10) == -signal.SIGKILL and not [one for one in of_its_runs if real_study.alive(one)]
