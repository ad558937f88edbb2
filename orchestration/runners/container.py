"""Steps in containers of this machine: docker, or podman where it serves docker's API."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import docker
from dagster_docker import PipesDockerClient
from dagster_docker.pipes import PipesDockerLogsMessageReader
from dagster_pipes import DagsterPipesError
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, Mount
from requests.exceptions import RequestException

from orchestration.deployment import Deployment, Limits
from orchestration.remote.messages import ByRemote
from orchestration.runners.endings import Ending
from orchestration.runners.pipes import GRACE, InWorkspace, code_of, left_over, lost, owner_of, step_of

SCRATCH = "size=1g,mode=1777"  # of /tmp, where nothing large is written: the rest of the root is read-only
LABEL = "stcln"
MISSING = re.compile("device driver|network not found")
"""What no try brings, though the engine calls it an error of its own: a GPU, a network."""


class ContainerRunner:
    """Runs steps in containers of the deployment's image, with the workspace where it is, as its owner, not as root.

    Args:
        root: The workspace.
        deployment: Image, limits, mounts, variables.
    """

    def __init__(self, root: Path, deployment: Deployment) -> None:
        self.root, self.deployment = root, deployment
        self.remote = deployment.results == "remote"

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        """Run `python -m stcln VERB ...` as a step in a container, removed in the end; gives the step's summary.

        Raises:
            dagster.Failure: Bad input, a limit, an image that is missing or of other code, with the sentence.
            dagster.RetryRequested: No daemon, or the container was ended from outside.
        """
        image, limits = str(self.deployment.image), self.deployment.limits_of(stage)
        reader = _MessagesByRemote(self.root) if self.remote else _Messages(self.root)
        try:
            _sweep(self.root, stage, context)
            PipesDockerClient(message_reader=reader).run(
                context=context.op_execution_context,
                image=image,
                command=["python", *step_of(argv)],
                extras=code_of(argv),
                container_kwargs={**self.settings(limits), **_named(self.root, stage, context)},
            )
        except DagsterPipesError:
            reader.refuse_bad_input()
            ending = _ending(reader.container, limits)
            if ending.again:
                raise lost(context, ending.sentence(stage, image)) from None
            raise dg.Failure(ending.sentence(stage, image), allow_retries=False) from None
        except (DockerException, RequestException) as error:
            sentence, again = _refusal(error, image)
            if again:
                raise lost(context, sentence) from error
            raise dg.Failure(sentence, allow_retries=False) from error
        finally:
            _clear(self.root, stage, context)
        return reader.told("summary") or {}

    def settings(self, limits: Limits) -> dict[str, Any]:
        """What docker calls the host's configuration."""
        user, group = owner_of(self.root)
        reads = {str(path): {"bind": str(path), "mode": "ro"} for path in self.deployment.mounts}
        place: dict[str, Any] = {
            "working_dir": str(self.root),
            "volumes": {**reads, str(self.root): {"bind": str(self.root), "mode": "rw"}},
            "tmpfs": {"/tmp": SCRATCH},
        }
        if self.remote:  # what a step takes and makes lies in a volume that goes with its container
            place = {"working_dir": "/tmp", "volumes": reads, "mounts": [Mount("/tmp", None)]}
        settings: dict[str, Any] = {
            "user": f"{user}:{group}",
            **place,
            "environment": {n: os.environ[n] for n in self.deployment.environment if n in os.environ},
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "shm_size": "1g",  # torch shares tensors there
            "healthcheck": {"test": ["NONE"]},  # the image's takes its seconds from the step's
            "init": True,  # hands the signal on and reaps what torchrun leaves
            "network_mode": self.deployment.network,
        }
        if limits.cpus:
            settings["nano_cpus"] = int(limits.cpus * 1e9)
        if memory := limits.memory_bytes:
            settings |= {"mem_limit": memory, "memswap_limit": memory}
        if limits.gpus:
            settings["device_requests"] = [DeviceRequest(count=limits.gpus, capabilities=[["gpu"]])]
        return settings


class _Printing(PipesDockerLogsMessageReader):
    """What the step prints is handed on as it is."""

    container: Container | None = None

    def consume_docker_logs(self, container: Container) -> None:
        """Print what the step prints until it ends; where the run is cancelled, let it save first."""
        self.container = container
        try:
            _print(container)
        except BaseException:
            container.stop(timeout=GRACE)
            _print(container)
            raise


class _Messages(InWorkspace, _Printing):
    """Messages by a file in the workspace."""


class _MessagesByRemote(ByRemote, _Printing):
    """Messages by the remote, where the workspace is not seen."""


def _print(container: Container) -> None:
    for part in container.logs(stream=True, follow=True):
        sys.stderr.buffer.write(part)
        sys.stderr.buffer.flush()


def _named(root: Path, stage: str, context: dg.AssetExecutionContext) -> dict[str, Any]:
    """Name and labels by which a container is found again."""
    name = re.sub(r"[^a-zA-Z0-9_.-]", "-", stage)
    labels = {LABEL: str(root), f"{LABEL}.stage": stage, f"{LABEL}.run": context.run.run_id}
    return {"name": f"stcln-{name}-{context.run.run_id[:8]}", "labels": labels}


def _sweep(root: Path, stage: str, context: dg.AssetExecutionContext) -> None:
    """Remove what a run that was killed has left of this stage, after it has saved its state."""
    for container in _standing(root, stage):
        if left_over(container.labels[f"{LABEL}.run"], context):
            context.log.info(f"{container.name} was left by a run that has ended: it is stopped and removed")
            container.stop(timeout=GRACE)
            container.remove(force=True, v=True)


def _clear(root: Path, stage: str, context: dg.AssetExecutionContext) -> None:
    """Remove this run's container of the stage; where the daemon does not answer, the next run sweeps."""
    with suppress(DockerException, RequestException):
        for container in _standing(root, stage):
            if container.labels[f"{LABEL}.run"] == context.run.run_id:
                container.remove(force=True, v=True)


def _standing(root: Path, stage: str) -> list[Container]:
    labels = [f"{LABEL}={root}", f"{LABEL}.stage={stage}"]
    found: list[Container] = docker.from_env().containers.list(all=True, filters={"label": labels})
    return found


def _ending(container: Container | None, limits: Limits) -> Ending:
    assert container is not None
    container.reload()
    state = container.attrs["State"]
    return Ending(int(state["ExitCode"]), bool(state.get("OOMKilled")), limits.memory)


def _refusal(error: Exception, image: str) -> tuple[str, bool]:
    """Why no container could be had, and whether to try again."""
    if isinstance(error, ImageNotFound) or (isinstance(error, APIError) and "pull" in str(error)):
        return (
            f"image {image}: it is not here and cannot be pulled ({_short(error)}); build it with `make images`.",
            False,
        )
    if isinstance(error, APIError) and (not error.is_server_error() or MISSING.search(str(error))):
        return f"image {image}: the daemon refuses the container ({_short(error)}); mend the deployment.", False
    if isinstance(error, APIError):
        return f"the container daemon failed ({_short(error)}); its log says why.", True
    return f"no container daemon answers ({_short(error)}); start it, or correct DOCKER_HOST.", True


def _short(error: Exception) -> str:
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())[:300]
