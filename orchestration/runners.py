"""Where a step runs. A runner takes a command and gives its summary and live events; no asset knows which one it has.

`RUNNERS` is the table; a deployment names one of it in STCLN_RUNNER. A runner elsewhere (a container, a pod) is one
more entry that starts the same `python -m orchestration.step` through its own Pipes client.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesParams

from assets.stage import Runner

CHECKOUT = Path(__file__).parents[1]
PROGRAM = ["python", "-m", "stcln"]
"""What every command in dvc.yaml begins with."""
GRACE = 120.0
"""Seconds that an interrupted step has to write its checkpoint."""


class LocalRunner:
    """Runs steps as processes on this machine, in the workspace, with this Python.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        """Run `python -m stcln VERB ...` as `python -m orchestration.step VERB ...`; gives the step's summary.

        Raises:
            dagster.Failure: Bad input, with its sentence; it is not tried again.
            DagsterPipesExecutionError: The process ended otherwise.
        """
        reader = _Reader()
        path = os.pathsep.join(part for part in (str(CHECKOUT), os.environ.get("PYTHONPATH")) if part)
        client = dg.PipesSubprocessClient(
            cwd=str(self.root),
            env={"PYTHONPATH": path},
            message_reader=reader,
            termination_timeout_seconds=GRACE,
        )
        command = [sys.executable, "-m", "orchestration.step", *argv[len(PROGRAM) :]]
        try:
            client.run(command=command, context=context.op_execution_context)
        except DagsterPipesExecutionError as error:
            if sentence := reader.told("bad_input"):
                raise dg.Failure(sentence, allow_retries=False) from error
            raise
        return reader.told("summary") or {}


class _Reader(dg.PipesTempFileMessageReader):
    """Keeps the step's own messages, also of one that failed."""

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        self.handler = handler
        with super().read_messages(handler) as params:
            yield params

    def told(self, what: str) -> Any:
        """The step's message of this name, if it sent one."""
        return next((message[what] for message in self.handler.get_custom_messages() if what in message), None)


RUNNERS: dict[str, Callable[[Path], Runner]] = {"local": LocalRunner}
