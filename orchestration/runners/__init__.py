"""Where a step runs. A runner takes a command and gives its summary and live events; no asset knows which one it has.

`RUNNERS` is the table; the deployment names one of it. Each starts the same `python -m orchestration.step` through a
Pipes client.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from assets.stage import Runner
from orchestration.deployment import Deployment

RUNNERS: Mapping[str, str] = {
    "local": "LocalRunner",
    "container": "ContainerRunner",
    "kubernetes": "KubernetesRunner",
    "kubeflow": "KubeflowRunner",
}
"""The class in the module of this package that has the runner's name. Clients of a cluster take seconds to import."""


def runner(root: Path, deployment: Deployment) -> Runner:
    """The deployment's runner, for a workspace."""
    module = import_module(f"orchestration.runners.{deployment.runner}")
    made: Runner = getattr(module, RUNNERS[deployment.runner])(root, deployment)
    return made
