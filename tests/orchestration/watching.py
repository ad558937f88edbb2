"""The code location of a toy workspace in a hurry: a look at its source every second, its schedule every minute.

STCLN_WORKSPACE names the workspace.
"""

import dagster as dg
from toy_workspace import Toy

from orchestration import schedules, sensors
from orchestration.definitions import build_defs
from orchestration.home import workspace_root

sensors.LOOK, schedules.MONDAYS = 1, "* * * * *"


def location() -> dg.Definitions:
    """All of the workspace's definitions."""
    root = workspace_root()
    return build_defs(root, Toy(root).resources)
