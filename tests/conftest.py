"""What every test may ask for."""

import os
import shutil
from itertools import product
from pathlib import Path

import pytest
import yaml
from refusals import archives, refused  # noqa: F401 - fixtures
from seaweed import _seaweed, mortal_s3, s3  # noqa: F401 - fixtures
from tiny_study import STUDY, synthetic_tile, write_season

from stcln.events import Silent
from stcln.workspace import Workspace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take long."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_configure() -> None:
    """Give every parallel worker one core: torch takes the cores it sees, and workers would fight."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        here = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {here[int(worker.removeprefix("gw")) % len(here)]})


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of small real data, named by STCLN_SHARED or beside the checkout; without it the test skips."""
    path = Path(os.environ.get("STCLN_SHARED") or Path(__file__).parents[2] / "shared")
    if not (path / "real").is_dir():
        pytest.skip(f"no real data at {path}: set STCLN_SHARED")
    return path


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    (root / "params.yaml").write_text(yaml.safe_dump(STUDY))
    for season in STUDY["cells"]["season"]:
        write_season(root / f"data/seasons/{season}.zarr", season, [synthetic_tile(n, season) for n in range(10)])
    return root


@pytest.fixture
def tiny_workspace(_tiny: Path, tmp_path: Path) -> Workspace:
    """A workspace with two small synthetic seasons prepared, two lengths and three arms; nothing trained."""
    shutil.copytree(_tiny, tmp_path / "tiny")
    return Workspace(tmp_path / "tiny")


@pytest.fixture(scope="session")
def tiny_trained(_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same after pre-training, with every cell fine-tuned and evaluated. Shared by tests: read only."""
    from stcln.evaluate import evaluate
    from stcln.training.finetune import finetune
    from stcln.training.pretrain import pretrain

    root = tmp_path_factory.mktemp("trained") / "tiny"
    shutil.copytree(_tiny, root)
    workspace = Workspace(root)
    pretrain(workspace, Silent())
    for cell in product(*(getattr(workspace.study.cells, key) for key in ("season", "length", "arm"))):
        finetune(workspace, *cell, Silent())
        evaluate(workspace, *cell, Silent())
    return workspace
