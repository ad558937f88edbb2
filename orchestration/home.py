"""Dagster's own directory in a workspace: `.dagster`, made from infra/dagster.yaml."""

import os
import shutil
from pathlib import Path

from stcln.errors import BadInput

CHECKOUT = Path(__file__).parents[1]
TEMPLATE = CHECKOUT / "infra/dagster.yaml"


def workspace_root() -> Path:
    """The workspace Dagster works on: STCLN_WORKSPACE, else this checkout."""
    return Path(os.environ.get("STCLN_WORKSPACE") or CHECKOUT).resolve()


def make_home(root: Path) -> Path:
    """The Dagster home of a workspace, made if it is not there; DAGSTER_HOME says where else it is.

    Raises:
        BadInput: There is no workspace.
    """
    if not (root / "params.yaml").exists():
        raise BadInput(root, "there is no study", "make one (`python -m stcln new`), or correct STCLN_WORKSPACE")
    home = Path(os.environ.get("DAGSTER_HOME") or root / ".dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(TEMPLATE, home / "dagster.yaml")
    return home
