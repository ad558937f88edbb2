"""Running a verb that is a stage: which function it calls, alone or in a team, and who is told."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

from stcln import runs, stages
from stcln.errors import BadInput, refusals_of_the_disk
from stcln.events import JsonLines, Reporter, Silent, Terminal, Value, values_text
from stcln.workspace import Workspace

Summary = dict[str, Value]
MODULES = {
    "fetch": "stcln.data.fetch",
    "prepare": "stcln.data.prepare",
    "pretrain": "stcln.training.pretrain",
    "finetune": "stcln.training.finetune",
    "evaluate": "stcln.evaluate",
    "ablate": "stcln.ablation",
    "drift": "stcln.drift",
    "report": "stcln.report",
    "export": "stcln.export",
}
TOGETHER = ("pretrain", "finetune")  # the verbs that several processes run as one
LISTENER: ContextVar[Reporter | None] = ContextVar("LISTENER", default=None)  # who runs a verb in this process


class Log(StrEnum):
    """How progress is told."""

    text = "text"
    json = "json"


def step(verb: str) -> Callable[..., Summary]:
    """A verb's function: it has the verb's name, takes (workspace, *keys, reporter), and is imported only now."""
    found: Callable[..., Summary] = getattr(import_module(MODULES[verb]), verb)
    return found


def run(root: Path, log: Log, stage: str, only: str | None = None, /, **keys: str) -> Summary:
    """Run a stage's verb in a workspace, alone: check first, record the run after. Its module is imported only now.

    Of the processes of a team the first holds the stage, records and tells.

    Args:
        root: The workspace.
        log: How progress is told.
        stage: The stage's name in the table.
        only: For `fetch`, the words of a trial to write into params.yaml first.
        keys: The stage's.
    """
    workspace, verb = Workspace(root.resolve()), stages.STAGES[stage].verb
    stages.check(workspace, stage, **keys)
    name = stages.name_of(stage, **keys)
    if _processes() > 1 and verb not in TOGETHER:
        raise BadInput("torchrun", f"{verb} is the work of one process", "run it without torchrun")
    output, more = workspace.root / stages.STAGES[stage].writes.format(**keys), dict[str, Any]()
    with ExitStack() as stack:
        if _leads():
            stack.enter_context(runs.alone(workspace, name))
            more = stack.enter_context(runs.record(workspace, name, output, _processes()))
        if only is not None:
            from stcln.data.fetch.trials import declare

            workspace = declare(workspace, only)
            stages.render(workspace)
        summary = step(verb)(workspace, *keys.values(), reporter(stack, log))
        more["summary"] = summary
    return tell(summary, log)


def reporter(stack: ExitStack, log: Log) -> Reporter:
    """Who listens: the caller of `run_verb`, or the terminal; to the first process of a team alone."""
    if not _leads():
        return Silent()
    given = LISTENER.get()
    if given is not None:
        return given
    return JsonLines() if log is Log.json else stack.enter_context(Terminal())


def tell(summary: Summary, log: Log) -> Summary:
    """Print a summary where nobody else listens, and pass it on."""
    if LISTENER.get() is None and _leads():
        text = json.dumps({"event": "done", **summary}) if log is Log.json else values_text(summary)
        print(text)
    return summary


def _processes() -> int:
    """How many processes torchrun started, of which this is one; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def _leads() -> bool:
    """Whether this process is the only one, or the first of its team."""
    return _processes() == 1 or os.environ["RANK"] == "0"


@contextmanager
def together() -> Iterator[None]:
    """Be one of the team that torchrun started, if it did; only then is torch imported before anything is checked."""
    if _processes() > 1:
        from stcln.training.distributed import joined

        with joined(), refusals_of_the_disk():
            yield
    else:
        yield
