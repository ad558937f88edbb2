"""What the assets are given: the ledger and the runner of this deployment."""

import os
from pathlib import Path
from typing import TypedDict

from assets.stage import Ledger, Runner
from orchestration.ledger import DvcLedger
from orchestration.runners import RUNNERS
from stcln.errors import BadInput


class Resources(TypedDict):
    """The resources that every asset takes."""

    ledger: Ledger
    runner: Runner


def resources(root: Path) -> Resources:
    """The resources of a workspace.

    Raises:
        BadInput: STCLN_RUNNER names no runner.
    """
    name = os.environ.get("STCLN_RUNNER", "local")
    if name not in RUNNERS:
        raise BadInput("environment variable STCLN_RUNNER", f"no runner {name!r}", f"name one of {list(RUNNERS)}")
    return Resources(ledger=DvcLedger(root), runner=RUNNERS[name](root))
