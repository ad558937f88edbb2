"""One step inside the process, container or pod that a runner has started: opens Pipes and calls the verb.

Of the processes that torchrun starts each runs this, and the first alone tells Dagster.

Imports `dagster_pipes` and `stcln` only, so that an image for steps needs nothing else of Dagster, nor DVC where the
workspace is shared.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dagster_pipes import PipesContext, PipesMappingParamsLoader, PipesMessageWriter, PipesParams, open_dagster_pipes

from stcln.cli import run_verb
from stcln.errors import BadInput
from stcln.events import Terminal, Value
from stcln.interrupt import Stopped, signals
from stcln.workspace import code_digest

ORDER = "--order"  # of a step that runs elsewhere: see orchestration.remote


class PipesReporter:
    """Tells the terminal everything and Dagster every note and every tenth of the way."""

    def __init__(self, pipes: PipesContext, terminal: Terminal) -> None:
        self.pipes, self.terminal = pipes, terminal
        self.tenths: dict[str, int] = {}

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        """Move the bar; log a line at every tenth, since Dagster stores each."""
        self.terminal.progress(what, done, total, values)
        tenth = 10 * done // max(total, 1)
        if tenth != self.tenths.get(what):
            self.tenths[what] = tenth
            self.pipes.log.info(_line(f"{what} {done}/{total}", values))

    def note(self, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Log a note."""
        self.terminal.note(message, values)
        self.pipes.log.info(_line(message, values))


def _line(message: str, values: Mapping[str, Value] | None) -> str:
    parts = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in (values or {}).items()
    ]
    return "  ".join([message, *parts])


def _outlives(parent: int) -> None:
    """End as a cancelled step does when the run is gone: its next try would find the stage held."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class _First(PipesMappingParamsLoader):
    """What Dagster has told the step; but of a team, the messages of all but the first process go nowhere."""

    def load_messages_params(self) -> PipesParams:
        """Where messages go."""
        return super().load_messages_params() if os.environ.get("RANK", "0") == "0" else {"path": os.devnull}


def _check_code(pipes: PipesContext, argv: Sequence[str]) -> None:
    """Refuse to run other code than the stage is recorded with; a runner elsewhere says which that is."""
    expected = pipes.extras.get("code")  # no text where Dagster has not started it
    if isinstance(expected, str) and (found := code_digest(argv[0])) != expected:
        problem = f"its code of {argv[0]} is another ({found[:8]}) than Dagster's ({expected[:8]})"
        raise BadInput("the image of the step", problem, "build the image again from the checkout that Dagster runs")


def _writer(argv: Sequence[str]) -> PipesMessageWriter[Any] | None:
    """What tells Dagster; None: the usual."""
    if ORDER not in argv:
        return None
    from orchestration.remote.line import Writer

    return Writer()


def _run(argv: Sequence[str], reporter: PipesReporter) -> dict[str, Any]:
    """Run the verb here, or as an order says (`orchestration.remote`), which needs DVC."""
    if ORDER not in argv:
        return dict(run_verb(argv, reporter))
    from orchestration.remote.place import run_elsewhere

    return run_elsewhere(argv, lambda words: run_verb(words, reporter))


def main(argv: Sequence[str]) -> int:
    """Run `argv` (verb and options); its summary goes to Dagster.

    Returns:
        The exit status: 2 for bad input, whose sentence is logged; 130 or 143 for a run that was cancelled.
    """
    threading.Thread(target=_outlives, args=(os.getppid(),), daemon=True).start()
    told = open_dagster_pipes(params_loader=_First(os.environ), message_writer=_writer(argv))
    with signals(), told as pipes, Terminal() as terminal:
        try:
            _check_code(pipes, argv)
            pipes.report_custom_message({"summary": _run(argv, PipesReporter(pipes, terminal))})
        except BadInput as error:
            pipes.report_custom_message({"bad_input": str(error)})
            print(f"stcln: {error}", file=sys.stderr)
            return 2
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return stopped.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
