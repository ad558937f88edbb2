"""A step in a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from tiny_study import restudy

from orchestration.deployment import Deployment
from orchestration.runners.local import LocalRunner
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration


@pytest.mark.filterwarnings("error:.*AssetExecutionContext:DeprecationWarning")
def test_bad_input_of_a_step_is_its_failures_sentence_and_nothing_warns_of_dagsters_future(tmp_path: Path) -> None:
    @dg.asset
    def store(context: dg.AssetExecutionContext) -> None:
        LocalRunner(tmp_path, Deployment()).run(
            "prepare@2018", ["python", "-m", "stcln", "prepare", "--season", "2018"], context
        )

    result = dg.materialize([store], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    error = failed.step_failure_data.user_failure_data
    assert error and "params.yaml" in str(error.description), failed.step_failure_data.error


def test_a_cancelled_run_saves_its_state_and_ends(tiny_workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    """As the UI cancels one: a SIGINT to the process of the run, which hands it to the step's."""
    workspace = restudy(tiny_workspace, finetune={"epochs": 500})
    words = ["finetune", "--season", "2016", "--length", "d6", "--arm", "scratch"]
    states = ".stcln/resume/*/seed-7/[0-9]*/state.json"
    cancelled = []

    @dg.asset
    def finetuned(context: dg.AssetExecutionContext) -> None:
        LocalRunner(workspace.root, Deployment()).run(
            "scratch@2016-d6-scratch", ["python", "-m", "stcln", *words], context
        )

    def cancel() -> None:
        while not [*workspace.root.glob(states)]:
            time.sleep(0.01)
        cancelled.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        dg.materialize([finetuned], instance=dg.DagsterInstance.ephemeral())
    assert time.monotonic() - cancelled[0] < 20
    assert "stcln: stopped by SIGINT; run it again to go on." in capfd.readouterr().err
    assert [*workspace.root.glob(states)] and not workspace.finetuned("2016", "d6", "scratch").exists()


RUN = """
import sys
from pathlib import Path
import dagster as dg
from orchestration.deployment import Deployment
from orchestration.runners.local import LocalRunner

@dg.asset
def finetuned(context: dg.AssetExecutionContext) -> None:
    LocalRunner(Path(sys.argv[1]), Deployment()).run("scratch@2016-d6-scratch", sys.argv[2:], context)

dg.materialize([finetuned], instance=dg.DagsterInstance.ephemeral())
"""


def test_a_step_whose_run_is_killed_saves_its_state_and_ends(tiny_workspace: Workspace, tmp_path: Path) -> None:
    workspace = restudy(tiny_workspace, finetune={"epochs": 5000})
    words = ["python", "-m", "stcln", "finetune", "--season", "2016", "--length", "d6", "--arm", "scratch"]
    told = tmp_path / "told"
    with told.open("w") as stream:
        run = subprocess.Popen([sys.executable, "-c", RUN, str(workspace.root), *words], stderr=stream)
    states = ".stcln/resume/*/seed-7/[0-9]*/state.json"
    while not [*workspace.root.glob(states)]:
        assert run.poll() is None, told.read_text()
        time.sleep(0.05)
    (step,) = (child for child in psutil.Process(run.pid).children() if "orchestration.step" in child.cmdline())
    run.kill()
    run.wait()
    step.wait(30)
    assert "stcln: stopped by SIGTERM; run it again to go on." in told.read_text()
    assert [*workspace.root.glob(states)] and not workspace.finetuned("2016", "d6", "scratch").exists()
