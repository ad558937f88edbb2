"""What a step's pod is made of: confined as the container is, with the workspace from a claim, or nothing of it."""

import re
from hashlib import md5
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.deployment import Cluster, Deployment, Limits
from orchestration.runners.pipes import GRACE, owner_of

PREFIX = "stcln"
CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Beside the workspace, all that can be written: torch shares tensors and NCCL buffers in /dev/shm.
SHM = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
SCRATCH_MOUNTS = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]


def pod_spec(root: Path, deployment: Deployment, limits: Limits) -> dict[str, Any]:
    """The spec of a pod that runs one step, but for image and command, which the client of Pipes adds.

    Where results travel by the remote, what the step takes and makes lies in its /tmp and goes with the pod.

    Raises:
        dagster.Failure: The workspace belongs to root, or it or a mount is not on the claim.
    """
    cluster, alone = cluster_of(deployment), is_alone(deployment)
    container = {
        "name": "step",
        "workingDir": "/tmp" if alone else str(root),
        "envFrom": [{"secretRef": {"name": cluster.secret}}] if cluster.secret else [],
        "resources": {"limits": resources(limits), "requests": resources(limits)},
        "securityContext": CONFINED,
        "volumeMounts": [*SCRATCH_MOUNTS, *([] if alone else workspace_mounts(root, deployment))],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE,  # also where a node is drained
        "securityContext": identity(root),
        "containers": [container],
        "volumes": [tmp(limits), SHM, *([] if alone else [workspace_volume(cluster)])],
    }


def limits_of(deployment: Deployment, stage: str) -> Limits:
    """What a stage may take.

    Raises:
        dagster.Failure: Not said of the disk, where its pod needs one.
    """
    limits = deployment.limits_of(stage)
    if is_alone(deployment) and not limits.disk:
        problem = f"{stage}: its `limits` name no disk, and results remote needs one for what it takes and makes"
        raise dg.Failure(f"{problem}; correct the deployment.", allow_retries=False)
    return limits


def is_alone(deployment: Deployment) -> bool:
    """Whether pods have nothing of the workspace, and their /tmp is where their step works."""
    return deployment.results == "remote"


def tmp(limits: Limits) -> dict[str, Any]:
    """The volume that is /tmp."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": limits.disk or "1Gi"}}


def cluster_of(deployment: Deployment) -> Cluster:
    """The section that a deployment in a cluster has."""
    assert deployment.cluster is not None
    return deployment.cluster


def identity(root: Path) -> dict[str, Any]:
    """The security context of a pod: the workspace's owner."""
    user, group = owner_of(root)
    who = {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": group}
    return {**who, "seccompProfile": {"type": "RuntimeDefault"}}


def workspace_volume(cluster: Cluster) -> dict[str, Any]:
    """The volume that is the claim."""
    return {"name": "workspace", "persistentVolumeClaim": {"claimName": cluster.claim}}


def workspace_mounts(root: Path, deployment: Deployment) -> list[dict[str, Any]]:
    """Workspace and `mounts` out of the claim, each where Dagster sees it too."""
    path = cluster_of(deployment).path
    assert path is not None
    reads = [{**_mount(mount, path), "readOnly": True} for mount in deployment.mounts]
    return [_mount(root, path), *reads]


def _mount(place: Path, path: Path) -> dict[str, Any]:
    if not place.is_relative_to(path):
        problem = f"{place} is not below {path}, where the claim is mounted, so that no pod can have it"
        raise dg.Failure(f"{problem}; move it there, or correct cluster.path.", allow_retries=False)
    below = place.relative_to(path).as_posix()
    return {"name": "workspace", "mountPath": str(place), **({} if below == "." else {"subPath": below})}


def resources(limits: Limits) -> dict[str, str]:
    """Limits, which are the requests too: nothing else takes what a step was promised."""
    given = {
        "cpu": f"{limits.cpus:g}" if limits.cpus else None,
        "memory": limits.memory,
        "ephemeral-storage": limits.disk,
        "nvidia.com/gpu": str(limits.gpus) if limits.gpus else None,
    }
    return {name: value for name, value in given.items() if value}


def labels(root: Path, stage: str, run_id: str | None = None) -> dict[str, str]:
    """By which what runs a stage is found again; of any run, or of one."""
    workspace = md5(str(root).encode(), usedforsecurity=False).hexdigest()[:12]
    found = {f"{PREFIX}/workspace": workspace, f"{PREFIX}/stage": label(stage)}
    return {**found, f"{PREFIX}/run": run_id} if run_id else found


def label(text: str) -> str:
    """A text as the value of a label: its letters, and a digest where it is too long."""
    clean = re.sub(r"[^A-Za-z0-9_.-]", ".", text)
    return clean if len(clean) <= 63 else f"{clean[:50]}-{md5(text.encode(), usedforsecurity=False).hexdigest()[:12]}"


def selector(of: dict[str, str]) -> str:
    """Labels as a query."""
    return ",".join(f"{name}={value}" for name, value in of.items())
