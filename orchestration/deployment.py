"""Where the steps of a deployment run and what each may take: the file that STCLN_DEPLOYMENT names.

Without one, steps are processes on this machine.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stcln.errors import BadInput
from stcln.stages import STAGES
from stcln.study.part import Part
from stcln.study.reading import read_part

MEMORY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
CLUSTER = ("kubernetes", "kubeflow")
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]


class Limits(Part):
    """What a step may take. None: no limit; no GPU is asked for unless one is named."""

    cpus: Annotated[float, Field(gt=0)] | None = None
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti)$")] | None = None
    """As Kubernetes writes it: 16Gi."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    disk: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti)$")] | None = None
    """Of its node, where results are remote and a pod holds what its step takes and makes; needed there."""
    nodes: Annotated[int, Field(ge=1)] | None = None
    """How many machines train together, each with these limits; runner kubeflow alone."""

    @property
    def memory_bytes(self) -> int | None:
        """The memory in bytes."""
        return int(self.memory[:-2]) * MEMORY[self.memory[-2:]] if self.memory else None


class Cluster(Part):
    """Where in a Kubernetes cluster the steps run."""

    namespace: KubernetesName
    claim: KubernetesName | None = None
    """The PersistentVolumeClaim with the workspace, which Dagster's own pods have mounted too; None where results are
    remote."""
    path: Path | None = None
    """Where they have it: the workspace is this directory or lies below."""
    secret: KubernetesName | None = None
    """A Secret of the namespace: each of its keys is a variable of the steps."""
    runtime: KubernetesName = "stcln-torch"
    """The ClusterTrainingRuntime of runner kubeflow."""
    start_minutes: Annotated[float, Field(gt=0)] = 30
    """How long a pod may wait for a node and for its image."""


class Deployment(Part):
    """A deployment.

    Relative paths in it are seen from its file.
    """

    runner: Literal["local", "container", "kubernetes", "kubeflow"] = "local"
    results: Literal["shared", "remote"] = "shared"
    """How steps get inputs and give results: on a disk shared with Dagster, or by the workspace's DVC remote."""
    image: str | None = None
    """Of the steps, with the code of this checkout in it."""
    limits: dict[str, Limits] = Field(default_factory=dict)
    """By stage, with the wildcards of a shell: `*`, `pretrain`, `finetune@2019-*`. Of several that match, what a later
    one says counts."""
    environment: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ...] = ()
    """Names of variables that a step is handed from Dagster's own environment, as far as they are set there:
    credentials of an object store."""
    mounts: tuple[Path, ...] = ()
    """Directories outside the workspace that steps read: a local archive, a DVC cache that the workspace links to."""
    network: str | None = None
    """Of the containers; None: the daemon's default. `host` where a service listens on loopback only."""
    cluster: Cluster | None = None
    """Of runners kubernetes and kubeflow."""

    @field_validator("limits")
    @classmethod
    def _are_of_stages(cls, limits: dict[str, Limits]) -> dict[str, Limits]:
        named = [pattern.partition("@")[0] for pattern in limits]
        if odd := [name for name in named if name not in STAGES and not set(name) & set("*?[")]:
            raise ValueError(f"no stage is called {odd[0]!r}: there are {', '.join(STAGES)}")
        return limits

    @model_validator(mode="after")
    def _has_what_the_runner_needs(self) -> Self:
        if self.runner != "local" and not self.image:
            raise ValueError(f"runner {self.runner} needs an image")
        if self.runner != "kubeflow" and any(limits.nodes for limits in self.limits.values()):
            raise ValueError(f"runner {self.runner} runs a step on one node: `nodes` needs runner kubeflow")
        alone = self.runner in CLUSTER and self.results == "remote"
        if not alone and any(limits.disk for limits in self.limits.values()):
            raise ValueError("`disk` is of pods whose results are remote: leave it out")
        if self.runner not in CLUSTER:
            return self
        if not self.cluster:
            raise ValueError(f"runner {self.runner} needs the section cluster")
        if self.results == "remote" and self.mounts:
            raise ValueError("results remote gives pods no claim, which `mounts` need")
        if self.results == "shared" and not (self.cluster.claim and self.cluster.path):
            raise ValueError("results shared needs cluster.claim and cluster.path")
        if self.environment:
            raise ValueError("in a cluster, variables come from a Secret: name it in cluster.secret, not environment")
        if self.network:
            raise ValueError("in a cluster, networks are a matter of its NetworkPolicies: leave network out")
        return self

    def limits_of(self, stage: str) -> Limits:
        """What a stage (`finetune@2019-d12-pretrained`) may take."""
        said = [limits for pattern, limits in self.limits.items() if fnmatchcase(stage, pattern)]
        fields = {name: value for limits in said for name, value in limits if value is not None}
        return Limits(**fields)


def deployment() -> Deployment:
    """The deployment of this process.

    Raises:
        BadInput: STCLN_DEPLOYMENT names a file that is missing or is none, or one of its mounts is missing.
    """
    name = os.environ.get("STCLN_DEPLOYMENT")
    if not name:
        return Deployment()
    path = Path(name).resolve()
    absent = ("there is no such file", "correct the environment variable STCLN_DEPLOYMENT")
    found = read_part(path, Deployment, absent, "infra/deployment.yaml is an example")
    mounts = tuple((path.parent / mount).resolve() for mount in found.mounts)
    if absent_mounts := [mount for mount in mounts if not mount.exists()]:
        raise BadInput(f"{path}, field mounts", f"{absent_mounts[0]} is not there", "correct the path")
    return found.model_copy(update={"mounts": mounts})
