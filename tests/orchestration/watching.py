"""The code location of a toy workspace whose clock is fast: a look at the source every second, the schedule every minute.

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
