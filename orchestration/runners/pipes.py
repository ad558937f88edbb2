"""What the runners share: the step's command, its own messages, and how an end that is not its fault is told."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesParams

from stcln.workspace import code_digest

PROGRAM = ["python", "-m", "stcln"]
"""What every command in dvc.yaml begins with."""
GRACE = 120
"""Seconds that an interrupted step has to write its checkpoint."""
TRIES, PAUSE = 3, 30.0
"""How often in all a step is started whose place to run fails, and seconds between."""


def step_of(argv: list[str]) -> list[str]:
    """`python -m stcln VERB ...` as the words after Python that run it as a step."""
    return ["-m", "orchestration.step", *argv[len(PROGRAM) :]]


def code_of(argv: list[str]) -> dict[str, str]:
    """What is told a step that may find other code where it runs: the digest of the verb's code here."""
    return {"code": code_digest(argv[len(PROGRAM)])}


class Told(dg.PipesMessageReader):
    """A reader of messages that keeps the step's own, also of one that failed; `kept` is set when reading begins."""

    kept: PipesMessageHandler

    def told(self, what: str) -> Any:
        """The step's message of this name, if it sent one."""
        return next((message[what] for message in self.kept.get_custom_messages() if what in message), None)

    def refuse_bad_input(self) -> None:
        """Raise the step's sentence, if it said that its input is bad.

        Raises:
            dagster.Failure: It did; it is not tried again.
        """
        if sentence := self.told("bad_input"):
            raise dg.Failure(sentence, allow_retries=False)


class InWorkspace(Told):
    """Messages by a file in the workspace, which both sides see: a log splits lines, mixes and loses them.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Read the file as it grows."""
        self.kept, owner = handler, self.root.stat()
        (self.root / ".stcln").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pipes-", dir=self.root / ".stcln") as directory:
            file = Path(directory) / "messages"
            with dg.PipesFileMessageReader(str(file)).read_messages(handler) as params:
                for path in (file, file.parent, file.parents[1]):
                    if os.geteuid() == 0:  # Dagster runs as root, the step as the workspace's owner
                        os.chown(path, owner.st_uid, owner.st_gid)
                try:
                    yield params
                finally:
                    file.open().close()  # makes NFS look how long it is by now: its last lines are the summary

    def no_messages_debug_text(self) -> str:
        """What Dagster adds to its warning that no message came."""
        return f"They were looked for in a file below {self.root / '.stcln'}."


def owner_of(root: Path) -> tuple[int, int]:
    """User and group that a step runs as: the workspace's.

    Raises:
        dagster.Failure: It belongs to root.
    """
    owner = root.stat()
    if owner.st_uid == 0:
        problem = f"{root} belongs to root, and no step runs as root"
        raise dg.Failure(f"{problem}; give it to the user who runs Dagster.", allow_retries=False)
    return owner.st_uid, owner.st_gid


def left_over(run_id: str, context: dg.AssetExecutionContext) -> bool:
    """Whether what stands of a run has nobody to wait for it: that run is over, or is this one, which begins anew."""
    run = context.instance.get_run_by_id(run_id)
    return run is None or run.is_finished or run.run_id == context.run.run_id


def lost(context: dg.AssetExecutionContext, sentence: str) -> dg.RetryRequested | dg.Failure:
    """What to raise where the place to run failed and not the step: it is tried again, and goes on where it was."""
    if context.op_execution_context.retry_number >= TRIES - 1:
        return dg.Failure(f"{sentence} It was tried {TRIES} times.", allow_retries=False)
    context.log.warning(sentence)
    return dg.RetryRequested(max_retries=TRIES - 1, seconds_to_wait=PAUSE)
