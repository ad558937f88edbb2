"""Steps as pods: what is asked of the API server, how every end is told, what is kept and what is deleted."""

import json
import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import kmock
import pytest
from kubernetes.client import ApiClient, V1Pod
from kubernetes.config import kube_config
from own_cluster import CLAIM, DONE, NAMESPACE, RUNNING, SECRET, Node, OwnCluster, Status, container
from step_in_cluster import ARGV, STAGE, Ran

from orchestration.deployment import Deployment, Limits
from orchestration.runners import pipes
from orchestration.runners.pod_spec import label
from orchestration.runners.pods import StartError, check_start, ending_of
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration


def waiting(reason: str, message: str) -> Status:
    return container(waiting={"reason": reason, "message": message})


def ended(status: int, reason: str = "Error") -> Status:
    return container(terminated={"exitCode": status, "reason": reason})


UNPLACED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "3 Insufficient nvidia.com/gpu",
        }
    ],
}
DISRUPTED = {
    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "the node is gone",
}  # fmt: skip
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}


def pod_in(status: Status) -> V1Pod:
    """A pod as the client reads it."""
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "step", "image": "registry/i"}]}}
    answer = SimpleNamespace(data=json.dumps({**body, "status": status}))
    pod: V1Pod = ApiClient().deserialize(answer, "V1Pod")
    return pod


def with_cluster(deployment: Deployment, **change: Any) -> Deployment:
    assert deployment.cluster
    return deployment.model_copy(update={"cluster": deployment.cluster.model_copy(update=change)})


def test_a_pod_is_confined_has_what_its_stage_may_take_and_is_deleted_when_it_ended_well(
    cluster: OwnCluster, crops: Deployment, owned: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.node = Node(RUNNING, DONE, printed="epoch 1/3\n")
    ran = Ran(owned, with_cluster(crops, secret=SECRET))
    assert ran.success, ran.sentence
    (pod,) = cluster.created
    spec, owner = pod["spec"], owned.root.stat()
    (one,) = spec["containers"]
    assert one["image"] == "registry/stcln-step:1" and one["workingDir"] == str(owned.root)
    assert one["command"] == ["python", "-m", "orchestration.step", *ARGV[3:]]
    assert one["envFrom"] == [{"secretRef": {"name": SECRET}}]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": owner.st_uid, "runAsGroup": owner.st_gid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert not spec["automountServiceAccountToken"] and spec["restartPolicy"] == "Never"
    assert spec["terminationGracePeriodSeconds"] == pipes.GRACE
    assert pod["metadata"]["namespace"] == NAMESPACE
    assert pod["metadata"]["labels"]["stcln/stage"] == "scratch.2016-d6-scratch"
    assert pod["metadata"]["annotations"] == {"stcln/stage": STAGE, "stcln/workspace": str(owned.root)}
    assert cluster.pods == [] and "epoch 1/3\n" in capfd.readouterr().err


def test_the_workspace_and_what_it_reads_come_out_of_the_claim_where_dagster_sees_them(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    above = owned.root.parent
    Ran(owned, with_cluster(crops, path=above).model_copy(update={"mounts": (above / "archive",)}))
    spec = cluster.created[0]["spec"]
    assert spec["volumes"][-1] == {"name": "workspace", "persistentVolumeClaim": {"claimName": CLAIM}}
    assert spec["containers"][0]["volumeMounts"][-2:] == [
        {"name": "workspace", "mountPath": str(owned.root), "subPath": owned.root.name},
        {"name": "workspace", "mountPath": str(above / "archive"), "subPath": "archive", "readOnly": True},
    ]


def test_what_is_not_on_the_claim_is_refused_before_anything_is_asked(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    ran = Ran(owned, with_cluster(crops, path=owned.root / "data"))
    assert "is not below" in ran.sentence and "cluster.path" in ran.sentence and cluster.created == []


def test_resources_follow_the_limits_of_stage_and_partition(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    limits = {
        "*": Limits(cpus=1.5, memory="2Gi"),
        "scratch@*": Limits(memory="8Gi", gpus=1),
        "scratch@2017-*": Limits(cpus=4),
    }
    for stage in ("prepare@2016", STAGE, "scratch@2017-d6-scratch"):
        Ran(owned, crops.model_copy(update={"limits": limits}), stage)
    asked = [pod["spec"]["containers"][0]["resources"] for pod in cluster.created]
    assert all(each["limits"] == each["requests"] for each in asked)
    assert [each["limits"] for each in asked] == [
        {"cpu": "1.5", "memory": "2Gi"},
        {"cpu": "1.5", "memory": "8Gi", "nvidia.com/gpu": "1"},
        {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"},
    ]


def test_a_pod_that_failed_is_kept_and_named_until_its_stage_runs_again(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.node = Node(RUNNING, ended(137, "OOMKilled"))
    deployment = crops.model_copy(update={"limits": {"*": Limits(memory="64Mi")}})
    ran = Ran(owned, deployment)
    (kept,) = cluster.pods
    assert "needs more memory than the 64Mi that `limits` gives it" in ran.sentence and ran.tries == 1
    assert f"Its pod is kept: `kubectl -n {NAMESPACE} describe pod {kept}`." in ran.sentence
    cluster.node = Node()
    Ran(owned, deployment, "prepare@2016")
    assert cluster.pods == [kept]
    again = Ran(owned, deployment)
    assert again.success and cluster.pods == []
    assert any(f"pod {kept} was left by an earlier run" in text for text in again.logs)


def test_what_the_place_did_to_a_pod_is_tried_again_and_then_told(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.node = Node(RUNNING, EVICTED)
    ran = Ran(owned, crops)
    assert "ended from outside: Evicted: The node was low on resource: memory." in ran.sentence
    assert ran.tries == pipes.TRIES and "It was tried 3 times." in ran.sentence
    assert len(cluster.created) == pipes.TRIES and len(cluster.pods) == 1


@pytest.mark.parametrize(
    ("last", "said", "again"),
    [
        (None, "its pod was deleted", True),
        (EVICTED, "Evicted: The node was low", True),
        ({**ended(1), "conditions": [DISRUPTED]}, "from outside: DeletionByTaintManager: the node is gone", True),
        (ended(143), "it was stopped from outside (exit status 143)", True),
        (ended(137), "was killed, from outside or because it needs more memory than the 4Gi", True),
        (ended(137, "OOMKilled"), "needs more memory than the 4Gi that `limits` gives it", False),
        (ended(127), "image registry/i cannot start it", False),
        (ended(1), "its last lines say why (exit status 1)", False),
    ],
)
def test_how_a_pod_ended_is_a_sentence_and_says_whether_to_try_again(
    last: Status | None, said: str, again: bool
) -> None:
    ending = ending_of(last and pod_in(last), "4Gi")
    assert said in ending.sentence(STAGE, "registry/i") and ending.again is again


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (waiting("ImagePullBackOff", "Back-off"), "image registry/i: the node cannot have it (ImagePullBackOff: Back-"),
        (waiting("ErrImageNeverPull", "not present"), "(ErrImageNeverPull: not present); push it to where"),
        (waiting("CreateContainerConfigError", 'secret "s" not found'), 'cannot start the container (secret "s" not'),
        (UNPLACED, "no node has room for it (3 Insufficient nvidia.com/gpu); lower its `limits`"),
        (waiting("ContainerCreating", ""), "its pod does not start (ContainerCreating)"),
        ({"phase": "Pending"}, "its pod does not start (Pending)"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told(status: Status, said: str) -> None:
    with pytest.raises(StartError) as told:
        check_start(pod_in(status), until=0)
    assert said in str(told.value)


def test_a_pod_that_cannot_start_is_not_left_to_start_when_nobody_waits(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.node = Node(UNPLACED)
    ran = Ran(owned, with_cluster(crops, start_minutes=0.005))
    assert f"{STAGE}: no node has room for it" in ran.sentence and ran.tries == 1 and cluster.pods == []


def test_a_pod_that_waits_for_its_turn_is_waited_for(cluster: OwnCluster, crops: Deployment, owned: Workspace) -> None:
    cluster.node = Node(UNPLACED, waiting("ContainerCreating", ""), RUNNING, DONE)
    assert Ran(owned, crops).success


def test_a_cancelled_run_deletes_its_pod_with_time_to_save(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.node = Node(RUNNING)

    def cancel() -> None:
        while not cluster.pods:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel, daemon=True).start()
    assert not Ran(owned, crops).success
    assert cluster.pods == [] and cluster.graces == [pipes.GRACE]


def test_a_pod_that_somebody_deletes_is_tried_again(cluster: OwnCluster, crops: Deployment, owned: Workspace) -> None:
    cluster.node = Node(RUNNING)

    def delete() -> None:
        while not cluster.pods:
            time.sleep(0.02)
        cluster.node, name = Node(), cluster.pods[0]
        cluster.core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)

    threading.Thread(target=delete, daemon=True).start()
    ran = Ran(owned, crops)
    assert ran.success, ran.sentence
    assert ran.tries == 2 and any("its pod was deleted" in text for text in ran.logs)


def test_an_api_server_that_is_absent_is_tried_again_and_then_told(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.kubeconfig.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "http://127.0.0.1:9"))
    ran = Ran(owned, crops)
    assert "the API server does not answer" in ran.sentence and "KUBECONFIG" in ran.sentence
    assert ran.tries == pipes.TRIES


def test_what_the_api_server_refuses_is_told_and_not_tried_again(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.server[kmock.action.CREATE] << {"message": "pods is forbidden"} << 403
    ran = Ran(owned, crops)
    assert "the API server refuses (403" in ran.sentence and "pods is forbidden" in ran.sentence and ran.tries == 1


def test_without_a_cluster_that_is_told(crops: Deployment, owned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere/config")
    assert "no Kubernetes cluster is named here" in Ran(owned, crops).sentence


def test_the_long_name_of_a_stage_makes_a_label_of_its_own() -> None:
    long = [f"evaluate-scratch@2016-{'very-' * 10}long-{arm}" for arm in ("scratch", "stretch")]
    assert label("fetch") == "fetch" and len({label(name) for name in long}) == 2
    assert all(len(label(name)) <= 63 and label(name)[-1].isalnum() for name in long)
