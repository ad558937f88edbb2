"""What the runners share: the step's command, its own messages, and how an end that is not its fault is told."""

from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler

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


def lost(context: dg.AssetExecutionContext, sentence: str) -> dg.RetryRequested | dg.Failure:
    """What to raise where the place to run failed and not the step: it is tried again, and goes on where it was."""
    if context.op_execution_context.retry_number >= TRIES - 1:
        return dg.Failure(f"{sentence} It was tried {TRIES} times.", allow_retries=False)
    context.log.warning(sentence)
    return dg.RetryRequested(max_retries=TRIES - 1, seconds_to_wait=PAUSE)
