"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of small real data, named by STCLN_SHARED or beside the checkout; without it the test skips."""
    path = Path(os.environ.get("STCLN_SHARED") or Path(__file__).parents[2] / "shared")
    if not (path / "real").is_dir():
        pytest.skip(f"no real data at {path}: set STCLN_SHARED")
    return path
