"""A toy study whose steps see no disk of Dagster's: its bytes lie in a bucket."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import dagster as dg
import toy_workspace
from toy_workspace import Toy

from orchestration.ledger import DvcLedger
from orchestration.notify import Addresses
from orchestration.remote.ledger import RemoteLedger
from orchestration.remote.place import run_elsewhere
from orchestration.resources import Resources
from orchestration.runners.pipes import PROGRAM
from stcln.new import GITIGNORE

HERE = Path(__file__).parent
ONE = toy_workspace.PARAMS.read_text().replace("[2018, 2019]", "[2018]")
"""A study of one season and two arms: every stage, and directories that several stages write into."""


class Elsewhere:
    """Runs steps in this process, each in an empty directory; what they tell is text, as it is by Pipes.

    Attributes:
        verb: Runs a verb in the working directory, given the toy's root and the words.
        after: Done to what a step told.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.verb = root, run_toy
        self.after: Callable[[dict[str, Any]], dict[str, Any]] = lambda told: told

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        told = run_elsewhere(argv[len(PROGRAM) :], lambda words: self.verb(self.root, words))
        return self.after(json.loads(json.dumps(told)))


class Here:
    """Runs steps in the workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        with chdir(self.root):
            return run_toy(self.root, argv[len(PROGRAM) :])


def run_toy(root: Path, words: Sequence[str]) -> dict[str, Any]:
    """A toy's verb in the working directory; its log and templates are the toy's."""
    for name in ("template", "runs.log"):
        if Path.cwd() != root:
            Path(name).symlink_to(root / name)
    subprocess.run([sys.executable, str(HERE / "toy.py"), *words], check=True)
    return {"toy": 1}


def make(root: Path, params: str = ONE) -> Toy:
    """A toy workspace with the real commands in its dvc.yaml."""
    toy_workspace.make(root, params=params)
    (root / ".gitignore").write_text(GITIGNORE)  # else DVC writes some that count among what lies in data/seasons
    pipeline = root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace(f"{sys.executable} toy.py", "python -m stcln"))
    return Toy(root)


def keep_here(toy: Toy) -> None:
    """The toy's steps run in the workspace."""
    toy.resources = Resources(ledger=DvcLedger(toy.root), runner=Here(toy.root), notifier=Addresses())


def send_away(toy: Toy, remote: str) -> None:
    """From now on the toy's results travel by a remote."""
    toy.dvc("remote", "add", "-q", "--default", "store", remote)
    toy.resources = Resources(ledger=RemoteLedger(toy.root), runner=Elsewhere(toy.root), notifier=Addresses())
