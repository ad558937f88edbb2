"""Workspaces over small real data and small stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stcln.data.prepare import prepare
from stcln.data.store import SeasonStore
from stcln.events import Silent
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[2] / "studies"
LAYOUTS = {"cubes": "flanders", "mtlcc": "own-mtlcc", "pastis": "own-pastis"}

Make = Callable[..., Workspace]


@pytest.fixture
def workspace(tmp_path: Path) -> Make:
    """A function: a workspace of a ready study whose archive is `raw`, with fields of `dataset` changed."""

    def make(raw: Path, study: str, **dataset: object) -> Workspace:
        params = yaml.safe_load((STUDIES / f"{study}.yaml").read_text())
        params["dataset"] |= dataset
        root = tmp_path / study
        (root / "data").mkdir(parents=True)
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        (root / "data/raw").symlink_to(raw)
        return Workspace(root)

    return make


@pytest.fixture(scope="session")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """Workspaces over the three layouts of the real data, both seasons prepared."""
    made = {}
    for layout, study in LAYOUTS.items():
        root = tmp_path_factory.mktemp(layout)
        (root / "data").mkdir()
        (root / "params.yaml").write_text((STUDIES / f"{study}.yaml").read_text())
        (root / "data/raw").symlink_to(shared / "real" / layout)
        made[layout] = Workspace(root)
        for season in ("2018", "2019"):
            prepare(made[layout], season, Silent())
    return made


@pytest.fixture(scope="session")
def stores(real: dict[str, Workspace]) -> dict[tuple[str, str], SeasonStore]:
    """The real stores by layout and season."""
    return {(name, s): SeasonStore.open(w.season(s)) for name, w in real.items() for s in ("2018", "2019")}
