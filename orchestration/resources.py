"""What the assets are given: the ledger, the runner and the notifier of this deployment."""

from pathlib import Path
from typing import TypedDict

from assets.stage import Ledger, Notifier, Runner
from orchestration.deployment import deployment
from orchestration.ledger import DvcLedger
from orchestration.notify import Addresses
from orchestration.runners import RUNNERS


class Resources(TypedDict):
    """The resources that every asset takes."""

    ledger: Ledger
    runner: Runner
    notifier: Notifier


def resources(root: Path) -> Resources:
    """The resources of a workspace.

    Raises:
        BadInput: STCLN_DEPLOYMENT names a file that is missing or is none.
    """
    place = deployment()
    return Resources(ledger=DvcLedger(root), runner=RUNNERS[place.runner](root, place), notifier=Addresses())
