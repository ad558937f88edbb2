"""A step in a process of its own."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration.runners import LocalRunner

pytestmark = pytest.mark.orchestration


@pytest.mark.filterwarnings("error:.*AssetExecutionContext:DeprecationWarning")
def test_bad_input_of_a_step_is_its_failures_sentence_and_nothing_warns_of_dagsters_future(tmp_path: Path) -> None:
    @dg.asset
    def store(context: dg.AssetExecutionContext) -> None:
        LocalRunner(tmp_path).run(["python", "-m", "stcln", "prepare", "--season", "2018"], context)

    result = dg.materialize([store], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    error = failed.step_failure_data.user_failure_data
    assert error and "params.yaml" in str(error.description), failed.step_failure_data.error
