from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stcln.model.checkpoint import Card


@pytest.fixture(scope="session")
def reference(shared: Path) -> Path:
    """The published code's checkpoints (random weights) and the numbers it computed with them."""
    return shared / "reference"


@pytest.fixture(scope="session")
def golden(reference: Path) -> dict[str, Tensor]:
    """The numeric arrays of pastis_golden.npz."""
    with np.load(reference / "pastis_golden.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind != "U"}


@pytest.fixture
def card() -> Card:
    """Of a tiny classifier with 4 bands and 5 classes."""
    return Card(
        kind="classifier",
        size="tiny",
        bands=("B02", "B03", "B04", "B08"),
        classes=("background", "wheat", "maize", "beet", "meadow"),
        ignore=(0,),
        mean=(400.0, 700.0, 600.0, 2800.0),
        std=(300.0, 300.0, 500.0, 900.0),
        window=8,
        method={"test_window": "same"},
        length={"dates": 12},
        length_name="d12",
        season="2017",
        season_start="01-01",
        seed=3407,
    )
