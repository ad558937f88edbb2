"""How a season enters a study."""

from collections.abc import Iterable
from typing import Any

from stcln.parameters import change
from stcln.runs import alone
from stcln.workspace import Workspace


def register(workspace: Workspace, seasons: Iterable[str]) -> None:
    """Add seasons to `cells.season` of params.yaml; all else in it, comments included, stays as it is.

    One process at a time does so, and what stands there already is not added again. Where params.yaml is a link to a
    study, the study is changed and the link stays.

    Raises:
        BadInput: The study would not be valid with them; the file is left as it was.
    """
    with alone(workspace, "register", wait=True):
        known = Workspace(workspace.root).study.cells.season
        new = [season for season in seasons if season not in known]

        def add(cells: Any) -> None:
            listed = cells["season"]
            listed += [int(season) if isinstance(listed[0], int) else season for season in new]

        if new:
            change(workspace.root / "params.yaml", "cells", add)
