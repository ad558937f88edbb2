"""An API server that keeps what it is told (kmock), and nodes: by a script of statuses, or by `podman play kube`."""

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kmock
import pytest
import yaml
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes.config import kube_config
from own_podman import podman

from orchestration.deployment import Cluster, Deployment
from orchestration.runners import pipes, pods
from stcln.workspace import Workspace

Status = dict[str, Any]
NAMESPACE, CLAIM, SECRET = "crops", "workspaces", "step-variables"
OWN = "not-the-runner"  # what the cluster's own parts call themselves
PODS = kmock.resource("", "v1", "pods")


def container(**state: Any) -> Status:
    """The status of a pod whose container is in a state: `container(running={})`."""
    (how,) = state
    phase = {"running": "Running", "waiting": "Pending"}.get(how)
    if how == "terminated":
        phase = "Failed" if state[how]["exitCode"] else "Succeeded"
    status = {"name": "step", "image": "", "imageID": "", "ready": how == "running", "restartCount": 0, "state": state}
    return {"phase": phase, "containerStatuses": [status]}


RUNNING = container(running={"startedAt": "2026-01-01T00:00:00Z"})
DONE = container(terminated={"exitCode": 0})


class Emulator(kmock.KubernetesEmulator):
    """Adds what clients rely on: selectors of lists, the time of creation, a deletion that waits for the node."""

    async def _handle(self, request: Any) -> Any:
        if request.action == kmock.action.CREATE:
            metadata = request.data["metadata"]
            metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z", "namespace": request.namespace}
            if request.resource == PODS:
                metadata["finalizers"] = ["the.node/has-ended-it"]
                request.data["status"] = {"phase": "Pending"}
        return await super()._handle(request)

    async def _serve_list(self, request: Any) -> Any:
        found: dict[str, Any] = await super()._serve_list(request)  # type: ignore[assignment]
        asked = request.params.get("labelSelector", ""), request.params.get("fieldSelector", "")
        labels, fields = ({tuple(part.split("=")) for part in text.split(",") if part} for text in asked)
        found["items"] = [
            item
            for item in found["items"]
            if labels <= set(item["metadata"].get("labels", {}).items())
            and fields <= {("metadata.name", item["metadata"]["name"])}
        ]
        return found


class Node:
    """Gives its pods the statuses of a script, one after the other; the last stays."""

    def __init__(self, *script: Status, printed: str = "") -> None:
        self.script, self.printed = script or (RUNNING, DONE), printed

    def play(self, pod: dict[str, Any]) -> Iterator[Status]:
        """Run a pod; gives its statuses."""
        yield from self.script

    def end(self, pod: dict[str, Any], grace: int) -> None:
        """End a pod that was deleted."""

    async def logs(self, name: str) -> AsyncIterator[bytes]:
        """What it prints, until it ends."""
        yield self.printed.encode()


class PodmanNode(Node):
    """Runs pods for real. Its image needs directories of this machine, which it adds as hostPath.

    podman 4.3 heeds neither subPath nor terminationGracePeriodSeconds nor an emptyDir's size.
    """

    def __init__(self, mounts: tuple[Path, ...], host_network: bool = False) -> None:
        super().__init__()
        self.mounts, self.host_network = mounts, host_network

    def play(self, pod: dict[str, Any]) -> Iterator[Status]:
        spec = {**json.loads(json.dumps(pod["spec"])), "hostNetwork": self.host_network}
        spec["volumes"] += [{"name": f"m{n}", "hostPath": {"path": str(p)}} for n, p in enumerate(self.mounts)]
        spec["containers"][0]["volumeMounts"] += [
            {"name": f"m{n}", "mountPath": str(path), "readOnly": True} for n, path in enumerate(self.mounts)
        ]
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "spec": spec}
        podman("play", "kube", "-", input=yaml.safe_dump(document))
        yield RUNNING
        podman("wait", name := self.container(pod["metadata"]["name"]))
        (state,) = json.loads(podman("inspect", "--format", "[{{json .State}}]", name))
        reason = "OOMKilled" if state["OOMKilled"] else "Error"
        yield container(terminated={"exitCode": state["ExitCode"], "reason": reason})

    def end(self, pod: dict[str, Any], grace: int) -> None:
        name = pod["metadata"]["name"]
        podman("pod", "stop", f"--time={grace}", name)
        time.sleep(0.2)  # so that who follows its logs reads them to the end
        podman("pod", "rm", "--force", name)

    async def logs(self, name: str) -> AsyncIterator[bytes]:
        words = ["podman", "logs", "--follow", self.container(name)]
        reading = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert reading.stdout
        while part := await reading.stdout.read(1 << 16):
            yield part

    @staticmethod
    def container(name: str) -> str:
        """podman's name of a pod's one container."""
        return f"{name}-step"


class OwnCluster:
    """The API server with its node, and what was asked of it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig, self.node, self.server = kubeconfig, Node(), Emulator()
        self.deleted: list[dict[str, Any]] = []
        self.graces: list[int] = []
        self._over = threading.Event()

    @property
    def pods(self) -> list[str]:
        """The names of the pods that stand."""
        return [pod.metadata.name for pod in self.core.list_namespaced_pod(NAMESPACE).items]

    @property
    def created(self) -> list[dict[str, Any]]:
        """Every pod that was asked for."""
        return [request.data for request in self.server[kmock.action.CREATE] if request.resource == PODS]

    @contextmanager
    def up(self) -> Iterator["OwnCluster"]:
        """Serve for the length of the block."""
        loop, started = asyncio.new_event_loop(), threading.Event()

        async def serve() -> None:
            async with self.server, kmock.Server(self.server) as http:
                self.url = str(http.url).rstrip("/")
                self.server.resources["v1/pods"] = {}
                self.server["get", re.compile(r".*/pods/[^/]+/log")] << self._logs
                started.set()
                while not self._over.is_set():
                    await asyncio.sleep(0.05)

        threads = [threading.Thread(target=lambda: loop.run_until_complete(serve()))]
        threads[0].start()
        assert started.wait(5)
        client = ApiClient(Configuration(host=self.url))
        client.user_agent = OWN
        self.core = CoreV1Api(client)
        threads.append(threading.Thread(target=self._watch))
        threads[1].start()
        self.kubeconfig.write_text(yaml.safe_dump(self._config()))
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(10)

    def _config(self) -> dict[str, Any]:
        context = {"cluster": "own", "user": "own"}
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "own",
            "clusters": [{"name": "own", "cluster": {"server": self.url}}],
            "contexts": [{"name": "own", "context": context}], "users": [{"name": "own", "user": {}}],
        }  # fmt: skip

    def _logs(self, request: Any) -> AsyncIterator[bytes]:
        return self.node.logs(request.name)

    def _watch(self) -> None:
        """Give every new pod to the node."""
        known = set[str]()
        while not self._over.wait(0.02):
            for pod in self.core.list_pod_for_all_namespaces(_preload_content=False).json()["items"]:
                if pod["metadata"]["name"] not in known:
                    known.add(pod["metadata"]["name"])
                    threading.Thread(target=self._play, args=(pod,), daemon=True).start()

    def _play(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        threading.Thread(target=self._end, args=(pod,), daemon=True).start()
        try:
            for status in self.node.play(pod):
                self.core.patch_namespaced_pod_status(name, NAMESPACE, {"status": status})
                time.sleep(0.05)
        except ApiException:
            pass  # it was deleted meanwhile

    def _end(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        while not self._over.wait(0.03):
            if self.core.read_namespaced_pod(name, NAMESPACE).metadata.deletion_timestamp:
                (asked,) = [r for r in self.server[kmock.action.DELETE] if r.name == name][:1]
                self.graces.append(int(asked.params["gracePeriodSeconds"]))
                self.node.end(pod, self.graces[-1])
                self.core.patch_namespaced_pod(name, NAMESPACE, {"metadata": {"finalizers": []}})
                return


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCluster]:
    """A cluster that this process's clients find by themselves, and that is looked at more often than a real one."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(pods, "POLL", 0.05)
    monkeypatch.setattr(pods, "AWAY", 1.0)
    monkeypatch.setattr(pipes, "PAUSE", 0)
    with OwnCluster(tmp_path / "kubeconfig").up() as own:
        yield own


@pytest.fixture
def crops(owned: Workspace) -> Deployment:
    """A deployment in it: the claim is the workspace."""
    place = Cluster(namespace=NAMESPACE, claim=CLAIM, path=owned.root)
    return Deployment(runner="kubernetes", image="registry/stcln-step:1", cluster=place)
