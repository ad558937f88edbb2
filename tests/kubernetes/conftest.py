"""Fixtures of the tests of Kubernetes. Without what they need nothing here is collected."""

from importlib.util import find_spec

NEEDED = ("dagster", "dvc", "kubeflow", "kmock", "kubernetes_validate")
if not all(find_spec(name) for name in NEEDED):
    collect_ignore_glob = ["test_*.py"]
else:
    from own_cluster import cluster, crops  # noqa: F401 - fixtures
    from own_podman import daemon, deployment, image, owned  # noqa: F401 - fixtures
    from own_trainer import trainer  # noqa: F401 - a fixture
