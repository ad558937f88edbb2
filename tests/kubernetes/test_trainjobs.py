"""Steps that train as TrainJobs: what is asked of Kubeflow, how every end is told, what is kept and what is deleted."""

import os
import signal
import threading
import time
from typing import Any

import dagster as dg
import pytest
from kubeflow.trainer import TrainerClient
from kubeflow_trainer_api import models
from own_cluster import CLAIM, DONE, NAMESPACE, RUNNING, OwnCluster, container
from own_trainer import Nodes, OwnTrainer
from step_in_cluster import ARGV, STAGE, Ran

from orchestration.deployment import Cluster, Deployment, Limits
from orchestration.runners.pipes import InWorkspace
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration

WELL = [RUNNING, DONE]


@pytest.fixture
def two(crops: Deployment) -> Deployment:
    """Fine-tuning on two nodes with two GPUs each."""
    limits = {"*": Limits(cpus=2, memory="4Gi"), "scratch@*": Limits(gpus=2, nodes=2)}
    return Deployment(**{**dict(crops), "runner": "kubeflow", "limits": limits})


def test_what_trains_is_a_trainjob_on_the_runtime_with_nodes_resources_and_workspace(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    cluster.node = Nodes(WELL, WELL)
    ran = Ran(owned, two)
    assert ran.success, ran.sentence
    (job,) = trainer.created
    spec, owner = job["spec"], owned.root.stat()
    sent = {key: value for key, value in job.items() if key != "status"}
    sent["metadata"] = {key: job["metadata"][key] for key in ("name", "labels", "annotations")}
    assert models.TrainerV1alpha1TrainJob.from_dict(sent).to_dict() == sent  # nothing that the API does not know
    assert spec["runtimeRef"] == {"name": "stcln-torch", "kind": "ClusterTrainingRuntime"}
    assert spec["trainer"]["numNodes"] == 2 and spec["trainer"]["image"] == "registry/stcln-step:1"
    words = ["python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "orchestration.step"]
    assert spec["trainer"]["command"] == [*words, *ARGV[3:]]
    asked = spec["trainer"]["resourcesPerNode"]
    assert asked["limits"] == asked["requests"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "2"}
    (patched,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = patched["template"]["spec"]["template"]
    assert pod["metadata"]["labels"]["stcln/stage"] == "scratch.2016-d6-scratch"
    assert pod["spec"]["securityContext"]["runAsUser"] == owner.st_uid
    assert pod["spec"]["volumes"] == [{"name": "workspace", "persistentVolumeClaim": {"claimName": CLAIM}}]
    (mounts,) = (one["volumeMounts"] for one in pod["spec"]["containers"])
    assert mounts == [{"name": "workspace", "mountPath": str(owned.root)}]
    assert trainer.standing == [] and cluster.pods == []


def test_where_results_are_remote_its_pods_have_room_to_work_in_and_nothing_of_the_workspace(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.runners.kubernetes.ByRemote", InWorkspace)  # the workspace has no remote
    cluster.node = Nodes(WELL, WELL)
    alone = {"results": "remote", "cluster": Cluster(namespace=NAMESPACE)}
    said = Ran(owned, Deployment(**{**dict(two), **alone})).sentence
    assert f"{STAGE}: its `limits` name no disk" in said and trainer.created == []
    limits = {**two.limits, "scratch@*": Limits(gpus=2, nodes=2, disk="50Gi")}
    ran = Ran(owned, Deployment(**{**dict(two), **alone, "limits": limits}))
    assert ran.success, ran.sentence
    (job,) = trainer.created
    (patched,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = patched["template"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "50Gi"}}]
    assert [container.get("volumeMounts") for container in pod["containers"]] == [None]
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["ephemeral-storage"] == "50Gi"


def test_what_does_not_train_is_a_pod(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    argv = ["python", "-m", "stcln", "prepare", "--season", "2016"]
    assert Ran(owned, two, "prepare@2016", argv).success
    assert trainer.created == [] and len(cluster.created) == 1


def test_a_job_that_failed_is_kept_and_told_by_the_node_that_failed_first(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    killed = container(terminated={"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:01Z"})
    lost = container(terminated={"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:02Z"})
    cluster.node = Nodes([RUNNING, RUNNING, lost], [RUNNING, killed])
    ran = Ran(owned, two)
    (name,) = trainer.standing
    assert "needs more memory than the 4Gi that `limits` gives it" in ran.sentence and ran.tries == 1
    assert f"TrainJob {name}, and this pod of it, {name}-node-0-1 is kept" in ran.sentence
    cluster.node = Nodes(WELL, WELL)
    again = Ran(owned, two)
    assert again.success and trainer.standing == []
    assert any(f"TrainJob {name} was left by a run that is over" in text for text in again.logs)


def test_a_node_that_cannot_start_is_told_and_no_job_is_left_that_might(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    waiting = container(waiting={"reason": "ErrImagePull", "message": "no such image"})
    cluster.node = Nodes([RUNNING], [waiting])
    ran = Ran(owned, two)
    assert f"{STAGE}: image registry/stcln-step:1: the node cannot have it (ErrImagePull" in ran.sentence
    assert trainer.standing == [] and cluster.pods == []


def test_a_cancelled_run_deletes_its_job(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    cluster.node = Nodes([RUNNING], [RUNNING])

    def cancel() -> None:
        while len(cluster.pods) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel, daemon=True).start()
    assert not Ran(owned, two).success
    assert trainer.standing == [] and cluster.pods == []


def test_a_run_that_is_cancelled_before_the_server_has_answered_leaves_no_job(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TrainerClient.train

    def broken_off(*asked: Any, **more: Any) -> None:
        train(*asked, **more)
        raise dg.DagsterExecutionInterruptedError

    monkeypatch.setattr(TrainerClient, "train", broken_off)
    cluster.node = Nodes([RUNNING], [RUNNING])
    assert not Ran(owned, two).success
    assert len(trainer.created) == 1 and trainer.standing == [] and cluster.pods == []


def test_a_runtime_that_is_missing_is_told(
    trainer: OwnTrainer, cluster: OwnCluster, two: Deployment, owned: Workspace
) -> None:
    assert two.cluster
    other = two.model_copy(update={"cluster": two.cluster.model_copy(update={"runtime": "other"})})
    ran = Ran(owned, other)
    assert "ClusterTrainingRuntime other: there is none of that name; `kubectl apply -k`" in ran.sentence
    assert ran.tries == 1


def test_a_stage_without_cores_and_gpus_is_refused(trainer: OwnTrainer, two: Deployment, owned: Workspace) -> None:
    ran = Ran(owned, two.model_copy(update={"limits": {"*": Limits(memory="4Gi")}}))
    assert "name neither cpus nor gpus" in ran.sentence and trainer.created == []
