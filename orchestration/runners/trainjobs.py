"""TrainJobs of Kubeflow in a namespace: found, followed to their end, and deleted. Its SDK makes them."""

import time
from typing import Any

from kubernetes.client import CoreV1Api, CustomObjectsApi, V1Pod

from orchestration.deployment import Cluster
from orchestration.runners import pods
from orchestration.runners.pipes import GRACE
from orchestration.runners.pod_spec import selector
from orchestration.runners.pods import OVER, StartError, absent_is_well, check_start, patiently, state_of

TRAINJOBS = ("trainer.kubeflow.org", "v1alpha1")
JOB, INDEX = "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-completion-index"


class TrainJobs:
    """Those of a cluster's namespace.

    Args:
        core: The cluster's API of pods.
        cluster: Where they are, and how long their pods may wait for nodes and image.
    """

    def __init__(self, core: CoreV1Api, cluster: Cluster) -> None:
        self.core, self.custom, self.cluster = core, CustomObjectsApi(core.api_client), cluster

    def standing(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """The metadata of the jobs that have these labels."""
        where = (*TRAINJOBS, self.cluster.namespace, "trainjobs")
        found = patiently(lambda: self.custom.list_namespaced_custom_object(*where, label_selector=selector(labels)))
        return [job["metadata"] for job in found["items"]]

    def started(self, name: str, nodes: int) -> V1Pod:
        """The pod of the first process, once all nodes have started.

        Raises:
            StartError: One cannot start.
        """
        until = time.monotonic() + 60 * self.cluster.start_minutes
        while True:
            found = self._pods(name)
            for pod in found:
                check_start(pod, until)
            if len(found) == nodes and all(state_of(pod).running or pod.status.phase in OVER for pod in found):
                return next(pod for pod in found if pod.metadata.labels[INDEX] == "0")
            if time.monotonic() > until:
                how = f"kubectl -n {self.cluster.namespace} describe trainjob {name}"
                raise StartError(f"TrainJob {name} has {len(found)} of {nodes} pods; see `{how}`, and run it again.")
            time.sleep(pods.POLL)

    def ended(self, name: str) -> tuple[bool, V1Pod | None]:
        """Whether a job whose first pod is over ended well; if not, the pod that failed first, if one is left."""
        until = time.monotonic() + GRACE + pods.AWAY
        while not (how := self._ending(name)):
            if time.monotonic() > until:
                raise StartError(f"TrainJob {name} does not end, though its first pod has; see to Kubeflow's trainer.")
            time.sleep(pods.POLL)
        failed = [pod for pod in self._pods(name) if pod.status.phase == "Failed"]
        return how == "Complete", min(failed, key=_when, default=None)

    def remove(self, name: str) -> None:
        """Delete a job and wait until its pods are gone: they have `GRACE` seconds to save, by the runtime's spec.

        Raises:
            StartError: They stay, so that nothing else may write in their place.
        """
        with absent_is_well():
            self.custom.delete_namespaced_custom_object(*TRAINJOBS, self.cluster.namespace, "trainjobs", name)
        until = time.monotonic() + GRACE + pods.AWAY
        while left := self._pods(name):
            if time.monotonic() > until:
                raise StartError(f"the pods of TrainJob {name} do not go: {[pod.metadata.name for pod in left]}.")
            time.sleep(pods.POLL)

    def _pods(self, name: str) -> list[V1Pod]:
        found = patiently(lambda: self.core.list_namespaced_pod(self.cluster.namespace, label_selector=f"{JOB}={name}"))
        items: list[V1Pod] = found.items
        return items

    def _ending(self, name: str) -> str | None:
        where = (*TRAINJOBS, self.cluster.namespace, "trainjobs", name)
        job = patiently(lambda: self.custom.get_namespaced_custom_object(*where))
        said = {one["type"] for one in job.get("status", {}).get("conditions", []) if one["status"] == "True"}
        return next((how for how in ("Complete", "Failed") if how in said), None)


def _when(pod: V1Pod) -> str:
    """When a pod ended, for comparing; one of which that is not known counts as first: it was evicted."""
    ended = state_of(pod).terminated
    return str(ended.finished_at) if ended and ended.finished_at else ""
