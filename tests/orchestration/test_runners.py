"""A step in a process of its own."""

import os
import signal
import threading
import time
from pathlib import Path

import dagster as dg
import pytest
from tiny_study import restudy

from orchestration.deployment import Deployment
from orchestration.runners import LocalRunner
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
