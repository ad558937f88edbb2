"""Steps as pods: what is asked of the API server, how every end is told, what is kept and what is deleted."""

import os
import signal
import threading
import time
from typing import Any

import dagster as dg
import kmock
import pytest
from kubernetes.client import CoreV1Api
from kubernetes.config import kube_config
from own_cluster import CLAIM, DONE, NAMESPACE, RUNNING, SECRET, Node, OwnCluster
from step_in_cluster import ARGV, STAGE, Ran
from test_pod_endings import EVICTED, UNPLACED, ended, waiting

from orchestration.deployment import Deployment, Limits
from orchestration.runners import pipes
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration


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
    assert any(f"pod {kept} was left by a run that is over" in text for text in again.logs)


def test_what_the_place_did_to_a_pod_is_tried_again_and_then_told(
    cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    cluster.node = Node(RUNNING, EVICTED)
    ran = Ran(owned, crops)
    assert "ended from outside: Evicted: The node was low on resource: memory." in ran.sentence
    assert ran.tries == pipes.TRIES and "It was tried 3 times." in ran.sentence
    assert len(cluster.created) == pipes.TRIES and len(cluster.pods) == 1


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


def test_a_run_that_is_cancelled_before_the_server_has_answered_leaves_no_pod(
    cluster: OwnCluster, crops: Deployment, owned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = CoreV1Api.create_namespaced_pod

    def broken_off(*asked: Any, **more: Any) -> None:
        create(*asked, **more)
        raise dg.DagsterExecutionInterruptedError

    monkeypatch.setattr(CoreV1Api, "create_namespaced_pod", broken_off)
    cluster.node = Node(RUNNING)
    assert not Ran(owned, crops).success
    assert len(cluster.created) == 1 and cluster.pods == [] and cluster.graces == [pipes.GRACE]


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
