"""A step's pod from its start to its end: what is printed, what keeps it from starting, how it ended, its removal.

Dagster's own waiting is not enough here: it waits a day for a pod that no node has room for or that was evicted, and
gives a running pod up as soon as the API server does not answer.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import dagster as dg
from kubernetes.client import ApiException, CoreV1Api, V1ContainerState, V1Pod
from urllib3.exceptions import HTTPError

from orchestration.deployment import Cluster
from orchestration.runners.endings import Ending
from orchestration.runners.pipes import GRACE

POLL = 2.0
"""Seconds between two looks at a pod."""
AWAY = 300.0
"""Seconds that the API server may be away: an upgrade of the control plane ends no training."""
QUIET = 300.0
"""Seconds without a line after which the log is asked for anew: a connection that is idle may be dropped, untold."""
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
OVER_ITS_DISK = (
    "Usage of EmptyDir volume", "Pod ephemeral local storage usage exceeds",
    "exceeded its local ephemeral storage limit",
)  # fmt: skip
"""What a kubelet says of a pod that it evicts for the pod's own limit."""
OVER = ("Succeeded", "Failed")
Answer = TypeVar("Answer")


class StartError(Exception):
    """A pod that cannot start, with the sentence; it is not left standing, since it might start when nobody waits."""


class PodError(Exception):
    """A pod that ended otherwise than well.

    Args:
        pod: As it ended; None: somebody has deleted it.
        kept: What is left of it to look at, as a sentence.
    """

    def __init__(self, pod: V1Pod | None, kept: str = "") -> None:
        self.pod, self.kept = pod, kept


class Pod:
    """A pod that was created.

    Args:
        api: The cluster's.
        cluster: Where it is, and how long it may wait for a node and its image.
        name: Its.
    """

    def __init__(self, api: CoreV1Api, cluster: Cluster, name: str) -> None:
        self.api, self.namespace, self.name = api, cluster.namespace, name
        self.until = time.monotonic() + 60 * cluster.start_minutes
        self._printed: float | None = None  # when the last line was read
        self._owed = True  # whether lines may have been missed

    def follow(self, end: Callable[[], None] | None = None) -> None:
        """Print what its step prints until it has ended well; where the wait is broken off, end it and let it save.

        Args:
            end: How to end it; None: delete it.

        Raises:
            StartError: It cannot start.
            PodError: It ended otherwise.
            ApiException, HTTPError: The API server is away for too long, or refuses.
        """
        try:
            while (pod := self.read()).status.phase not in OVER:
                check_start(pod, self.until)
                self._print(pod)
                time.sleep(POLL)
            self._print(pod)
        except PodError:
            raise
        except BaseException:
            with suppress(ApiException, HTTPError, StartError):  # the next run sweeps
                (end or self.remove)()
            raise
        if pod.status.phase == "Failed":
            raise PodError(pod, f"Its pod is kept: `kubectl -n {self.namespace} describe pod {self.name}`.")

    def read(self) -> V1Pod:
        """The pod as it is."""
        try:
            return patiently(lambda: self.api.read_namespaced_pod(self.name, self.namespace))
        except ApiException as error:
            if error.status == 404:
                raise PodError(None) from None
            raise

    def remove(self) -> None:
        """Delete it and wait until it is gone: its step has `GRACE` seconds to save.

        Raises:
            StartError: It stays, so that nothing else may write in its place.
        """
        until = time.monotonic() + GRACE + AWAY
        with absent_is_well():
            self.api.delete_namespaced_pod(self.name, self.namespace, grace_period_seconds=GRACE)
            while time.monotonic() < until:
                pod = self.api.read_namespaced_pod(self.name, self.namespace)
                if state_of(pod).running:
                    self._print(pod)  # the step's last words
                time.sleep(POLL / 4)
            how = f"kubectl -n {self.namespace} delete pod --force {self.name}"
            raise StartError(f"pod {self.name} does not go: where its node is off for certain, `{how}`.")

    def _print(self, pod: V1Pod) -> None:
        """Print until the container ends, from where the last time was broken off."""
        state = state_of(pod)
        if not (state.running or (state.terminated and self._owed)):
            return
        since = None if self._printed is None else int(time.monotonic() - self._printed) + 1
        self._owed = True
        with suppress(ApiException, HTTPError):  # seen again at the next look
            printed = self.api.read_namespaced_pod_log(
                self.name,
                self.namespace,
                container=pod.spec.containers[0].name,
                follow=True,
                since_seconds=since,
                _preload_content=False,
                _request_timeout=QUIET,
            )
            for part in printed.stream():
                sys.stderr.buffer.write(part)
                sys.stderr.buffer.flush()
            self._owed = False
        self._printed = time.monotonic()


def check_start(pod: V1Pod, until: float) -> None:
    """Refuse to wait for what will not be.

    Args:
        pod: As it is.
        until: How long it may wait, by the monotonic clock.

    Raises:
        StartError: Its image or its Secret is missing, or it has waited too long.
    """
    state = state_of(pod)
    if state.running or state.terminated:
        return
    if state.waiting and state.waiting.reason in NO_IMAGE:
        image = pod.spec.containers[0].image
        why = f"the node cannot have it ({state.waiting.reason}: {line(state.waiting.message)})"
        raise StartError(f"image {image}: {why}; push it to where the nodes pull from, or correct the deployment.")
    if state.waiting and state.waiting.reason in NO_CONTAINER:
        raise StartError(f"the node cannot start the container ({line(state.waiting.message)}); mend the cluster.")
    if time.monotonic() > until:
        raise StartError(f"{_waits_for(pod)}; lower its `limits`, mend the cluster, or raise cluster.start_minutes.")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask the API server, and again while it is away."""
    until = time.monotonic() + AWAY
    while True:
        try:
            return ask()
        except (ApiException, HTTPError) as error:
            refused = isinstance(error, ApiException) and error.status < 500 and error.status != 429
            if refused or time.monotonic() > until:
                raise
            time.sleep(POLL)


@contextmanager
def none_unattended(sweep: Callable[[], None]) -> Iterator[None]:
    """Within, a run that is cancelled before the API server has answered leaves nothing that works on.

    Args:
        sweep: Removes what stands of the run.
    """
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        with suppress(ApiException, HTTPError, StartError):  # the next run sweeps
            sweep()
        raise


@contextmanager
def absent_is_well() -> Iterator[None]:
    """Within, that an object is not there ends the block and is no error."""
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


def state_of(pod: V1Pod) -> V1ContainerState:
    """The state of the step's container; an empty one where the node has told none yet."""
    statuses = pod.status.container_statuses or []
    return statuses[0].state if statuses else V1ContainerState()


def ending_of(pod: V1Pod | None, memory: str | None) -> Ending:
    """How a pod ended."""
    if pod is None:
        return Ending(137, False, memory, "its pod was deleted")
    ended = state_of(pod).terminated
    status = ended.exit_code if ended else 137
    told = [pod.status, *(one for one in pod.status.conditions or [] if one.type == "DisruptionTarget")]
    for each in told:  # Evicted, NodeShutdown, PreemptionByScheduler: the pod's, not the container's
        if each.reason:
            return Ending(status, False, memory, f"{each.reason}: {line(each.message)}", _is_of_disk(each.message))
    return Ending(status, bool(ended and ended.reason == "OOMKilled"), memory)


def _is_of_disk(message: str | None) -> bool:
    """Whether a node evicted a pod for more than it may write, and not because the node itself ran out."""
    return any(said in (message or "") for said in OVER_ITS_DISK)


def _waits_for(pod: V1Pod) -> str:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node has room for it ({line(condition.message)})"
    waiting = state_of(pod).waiting
    return f"its pod does not start ({line(waiting.reason if waiting else pod.status.phase)})"


def line(text: str | None) -> str:
    """What a cluster says, on one line and not too long."""
    return " ".join((text or "no reason is given").split())[:300]
