"""Toy workspaces, fresh and finished, and real Dagster instances. Without Dagster and DVC nothing here is collected."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from toy_workspace import Toy

if not (find_spec("dagster") and find_spec("dvc")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy workspace that has not run."""
    import toy_workspace

    root = tmp_path_factory.mktemp("toy") / "workspace"
    toy_workspace.make(root)
    return root


@pytest.fixture
def toy(template: Path, tmp_path: Path) -> "Toy":
    """A fresh copy of the toy workspace."""
    from toy_workspace import Toy

    return Toy(Path(shutil.copytree(template, tmp_path / "workspace")))


@pytest.fixture(scope="session")
def finished(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy workspace in which Dagster has run the study; copy it, with its `.dagster`."""
    from dagster import DagsterInstance
    from toy_workspace import Toy

    root = Path(shutil.copytree(template, tmp_path_factory.mktemp("finished") / "workspace"))
    home = root / ".dagster"
    home.mkdir()
    with DagsterInstance.from_config(str(home)) as instance:
        Toy(root).dagster(instance)
    return root


@pytest.fixture(scope="session")
def reproduced(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy workspace in which `dvc repro` has run the study; copy it."""
    from toy_workspace import Toy

    root = Path(shutil.copytree(template, tmp_path_factory.mktemp("reproduced") / "workspace"))
    Toy(root).dvc("repro", "-q")
    return root


@pytest.fixture
def by_dvc(reproduced: Path, tmp_path: Path) -> "Toy":
    """A copy of the toy study that `dvc repro` has finished and Dagster has not seen."""
    from toy_workspace import Toy

    toy = Toy(Path(shutil.copytree(reproduced, tmp_path / "by_dvc")))
    toy.ran()
    return toy


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> "Iterator[tuple[Toy, DagsterInstance]]":
    """A copy of the toy study that Dagster has finished, and its instance."""
    from dagster import DagsterInstance
    from toy_workspace import Toy

    toy = Toy(Path(shutil.copytree(finished, tmp_path / "done")))
    toy.ran()
    with DagsterInstance.from_config(str(toy.root / ".dagster")) as instance:
        yield toy, instance


@pytest.fixture
def instance() -> "Iterator[DagsterInstance]":
    """A real Dagster instance that lives as long as the test."""
    from dagster import DagsterInstance

    with DagsterInstance.ephemeral() as instance:
        yield instance
