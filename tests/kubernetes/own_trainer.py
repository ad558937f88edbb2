"""What Kubeflow's trainer and JobSet do in a cluster with a TrainJob, as far as its maker can see: pods and an end."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kmock
import pytest
import yaml
from kubernetes.client import CustomObjectsApi
from own_cluster import NAMESPACE, Node, OwnCluster, Status

from orchestration.runners.pods import absent_is_well
from orchestration.runners.trainjobs import INDEX, JOB, TRAINJOBS

RUNTIME = Path(__file__).parents[2] / "infra/kubernetes/kubeflow/runtime.yaml"
TRAIN_JOBS = kmock.resource(*TRAINJOBS, "trainjobs")


class Nodes(Node):
    """A script for each node of a job; other pods have the usual one."""

    def __init__(self, *scripts: list[Status]) -> None:
        super().__init__()
        self.scripts = scripts

    def play(self, pod: dict[str, Any]) -> Iterator[Status]:
        index = pod["metadata"]["labels"].get(INDEX)
        yield from self.script if index is None else self.scripts[int(index)]


class OwnTrainer:
    """Makes the pods of every TrainJob, ends it with them, and deletes them with it."""

    def __init__(self, cluster: OwnCluster) -> None:
        self.cluster, self.pods = cluster, dict[str, list[str]]()
        self.custom = CustomObjectsApi(cluster.core.api_client)
        runtime = yaml.safe_load(RUNTIME.read_text())
        self.custom.create_cluster_custom_object(*TRAINJOBS, "clustertrainingruntimes", runtime)
        cluster.server.resources["trainer.kubeflow.org/v1alpha1/trainjobs"] = {}
        cluster.server.resources["trainer.kubeflow.org/v1alpha1/trainingruntimes"] = {}

    @property
    def created(self) -> list[dict[str, Any]]:
        """Every TrainJob that was asked for."""
        asked = self.cluster.server[kmock.action.CREATE]
        return [request.data for request in asked if request.resource == TRAIN_JOBS]

    @property
    def standing(self) -> list[str]:
        """The names of those that stand."""
        return [job["metadata"]["name"] for job in self._jobs()]

    def run(self, over: threading.Event) -> None:
        """Work until it is over."""
        while not over.wait(0.05):
            jobs = {job["metadata"]["name"]: job for job in self._jobs()}
            for name in jobs.keys() - self.pods.keys():
                self._start(name, jobs[name])
            for name in self.pods.keys() & {name for name, job in jobs.items() if "status" not in job}:
                self._look(name)
            for name in self.pods.keys() - jobs.keys():
                self._delete(self.pods.pop(name))

    def _jobs(self) -> list[dict[str, Any]]:
        return list(self.custom.list_namespaced_custom_object(*TRAINJOBS, NAMESPACE, "trainjobs")["items"])

    def _start(self, name: str, job: dict[str, Any]) -> None:
        trainer = job["spec"]["trainer"]
        container = {"name": "node", "image": trainer["image"], "command": trainer["command"]}
        self.pods[name] = [f"{name}-node-0-{index}" for index in range(trainer["numNodes"])]
        for index, pod in enumerate(self.pods[name]):
            labels = {JOB: name, INDEX: str(index), "jobset.sigs.k8s.io/replicatedjob-name": "node"}
            body = {"metadata": {"name": pod, "labels": labels}, "spec": {"containers": [container]}}
            self.cluster.core.create_namespaced_pod(NAMESPACE, body)

    def _look(self, name: str) -> None:
        pods = self.cluster.core.list_namespaced_pod(NAMESPACE, label_selector=f"{JOB}={name}").items
        phases = {pod.metadata.name: pod.status.phase for pod in pods}
        end = "Failed" if "Failed" in phases.values() else "Complete" if {*phases.values()} == {"Succeeded"} else None
        if end == "Failed":
            self._delete([pod for pod, phase in phases.items() if phase == "Running"])
        if end:
            status = {"status": {"conditions": [{"type": end, "status": "True", "reason": end, "message": ""}]}}
            with absent_is_well():
                self.custom.patch_namespaced_custom_object(*TRAINJOBS, NAMESPACE, "trainjobs", name, status)

    def _delete(self, pods: list[str]) -> None:
        for pod in pods:
            with absent_is_well():
                self.cluster.core.delete_namespaced_pod(pod, NAMESPACE, grace_period_seconds=120)


@pytest.fixture
def trainer(cluster: OwnCluster) -> Iterator[OwnTrainer]:
    """A cluster with Kubeflow's trainer and the runtime of infra/kubernetes."""
    own, over = OwnTrainer(cluster), threading.Event()
    thread = threading.Thread(target=own.run, args=(over,))
    thread.start()
    yield own
    over.set()
    thread.join()
