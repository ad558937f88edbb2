"""Fixtures of the tests in real containers. Without Dagster and DVC nothing here is collected."""

from importlib.util import find_spec

from own_images import base, images  # noqa: F401 - fixtures
from own_podman import daemon, deployment, image, owned  # noqa: F401 - fixtures

if not (find_spec("dagster") and find_spec("dvc")):
    collect_ignore_glob = ["test_*.py"]
