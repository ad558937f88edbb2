"""Steps as processes of this machine."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesParams

from orchestration.deployment import Deployment
from orchestration.home import CHECKOUT
from orchestration.runners.pipes import GRACE, Told, step_of


class LocalRunner:
    """Runs steps as processes on this machine, in the workspace, with this Python.

    Args:
        root: The workspace.
        deployment: Nothing of it is heeded here.
    """

    def __init__(self, root: Path, deployment: Deployment) -> None:
        self.root = root

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        """Run `python -m stcln VERB ...` as `python -m orchestration.step VERB ...`; gives the step's summary.

        Raises:
            dagster.Failure: Bad input, with its sentence; it is not tried again.
            DagsterPipesExecutionError: The process ended otherwise.
        """
        reader = _Messages()
        path = os.pathsep.join(part for part in (str(CHECKOUT), os.environ.get("PYTHONPATH")) if part)
        client = dg.PipesSubprocessClient(
            cwd=str(self.root),
            env={"PYTHONPATH": path},
            message_reader=reader,
            termination_timeout_seconds=GRACE,
        )
        try:
            client.run(command=[sys.executable, *step_of(argv)], context=context.op_execution_context)
        except DagsterPipesExecutionError:
            reader.refuse_bad_input()
            raise
        return reader.told("summary") or {}


class _Messages(Told, dg.PipesTempFileMessageReader):
    """A file beside this process."""

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Read the file as it grows."""
        self.kept = handler
        with super().read_messages(handler) as params:
            yield params
