"""A whole Dagster service on a small study, started once. Without Dagster and DVC nothing here is collected."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from seaweed import Seaweed, weed

if TYPE_CHECKING:
    from own_service import Service

if not (find_spec("dagster_postgres") and find_spec("dvc")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Service]":
    """Postgres, S3, code server, webserver and daemon, all up."""
    import real_study
    from own_service import Service, postgres_program

    if not postgres_program("initdb"):
        pytest.skip("no Postgres here: tests/install gets it")
    weed()
    top = tmp_path_factory.mktemp("service")
    (top / "workspace").mkdir()
    real_study.make(top / "workspace")
    service = Service(top / "service", top / "workspace", Seaweed(top / "s3"))
    try:
        service.start()
        yield service
    finally:
        service.stop()
