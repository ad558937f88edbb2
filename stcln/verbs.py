"""The verbs that are stages: which function each calls."""

from collections.abc import Callable
from importlib import import_module

from stcln.events import Value

MODULES = {
    "fetch": "stcln.data.fetch",
    "prepare": "stcln.data.prepare",
    "pretrain": "stcln.training.pretrain",
    "finetune": "stcln.training.finetune",
    "evaluate": "stcln.evaluate",
    "ablate": "stcln.ablation",
    "report": "stcln.report",
    "export": "stcln.export",
}


def step(verb: str) -> Callable[..., dict[str, Value]]:
    """A verb's function: it has the verb's name, takes (workspace, *keys, reporter), and is imported only now."""
    found: Callable[..., dict[str, Value]] = getattr(import_module(MODULES[verb]), verb)
    return found
