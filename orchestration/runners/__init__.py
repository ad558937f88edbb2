"""Where a step runs. A runner takes a command and gives its summary and live events; no asset knows which one it has.

`RUNNERS` is the table; the deployment names one of it. Each starts the same `python -m orchestration.step` through a
Pipes client.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from assets.stage import Runner
from orchestration.deployment import Deployment
from orchestration.runners.container import ContainerRunner
from orchestration.runners.local import LocalRunner

RUNNERS: Mapping[str, Callable[[Path, Deployment], Runner]] = {"local": LocalRunner, "container": ContainerRunner}
