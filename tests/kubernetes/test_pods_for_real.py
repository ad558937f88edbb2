"""The very pods of the API server, run by podman: what the step may do in one, what it makes, and that it saves."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import real_study
from own_cluster import NAMESPACE, OwnCluster, PodmanNode
from own_podman import USER, podman, trained_here
from seaweed import Seaweed
from step_in_cluster import ARGV, Ran
from tiny_study import restudy

from orchestration.deployment import Cluster, Deployment, Limits
from orchestration.remote.ledger import RemoteLedger
from orchestration.runners import runner
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

STATES = ".stcln/resume/*/seed-*/[0-9]*/state.json"


@pytest.fixture
def placed(cluster: OwnCluster, crops: Deployment, deployment: Deployment, owned: Workspace) -> Iterator[Deployment]:
    """A deployment whose node is podman; its claim is a volume of podman's, its Secret a secret of podman's."""
    cluster.node = PodmanNode(deployment.mounts)
    name = f"test-{os.getpid()}-{owned.root.parent.name.replace('_', '-')}".lower()[:60]
    podman("volume", "create", "--opt=type=none", "--opt=o=bind", f"--opt=device={owned.root}", name)
    podman("secret", "create", name, "-", input=json.dumps({"STCLN_TOLD": "Ym8="}))
    assert crops.cluster
    place = crops.cluster.model_copy(update={"claim": name, "secret": name})
    yield crops.model_copy(update={"image": deployment.image, "cluster": place})
    for pod in cluster.pods:
        podman("pod", "rm", "--force", pod)
    podman("secret", "rm", name)
    podman("volume", "rm", "--force", name)


def meanwhile(cluster: OwnCluster, workspace: Workspace, action: Callable[[str], object]) -> None:
    """Call `action` with the running container's name as soon as the training has a state."""

    def wait() -> None:
        while not [*workspace.root.glob(STATES)]:
            time.sleep(0.02)
        action(PodmanNode.container(cluster.pods[0]))

    threading.Thread(target=wait, daemon=True).start()


def test_a_step_in_a_pod_is_confined_and_gives_the_bytes_and_the_events_of_a_local_run(
    cluster: OwnCluster, placed: Deployment, owned: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def look(name: str) -> None:
        (found,) = json.loads(podman("inspect", name))
        seen.append(Path(f"/proc/{found['State']['Pid']}/status").read_text())
        seen.append(podman("exec", name, "/usr/bin/sh", "-c", "touch /x || echo $STCLN_TOLD"))
        seen.append(str(found["HostConfig"]["Memory"]))

    meanwhile(cluster, owned, look)
    ran = Ran(owned, placed.model_copy(update={"limits": {"*": Limits(memory="2Gi", cpus=2)}}))
    assert ran.success, ran.sentence
    status = dict(line.split(":\t", 1) for line in seen[0].splitlines())
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert seen[1:] == ["bo\n", str(2 << 30)]
    assert cluster.pods == [] and podman("ps", "--all", "--filter", f"volume={placed.cluster.claim}", "-q") == ""
    assert "epoch 6/6" in capfd.readouterr().err  # what the step prints
    assert any("epoch 6/6" in text for text in ran.logs)  # what it tells Dagster
    assert [*owned.root.glob(".stcln/pipes-*")] == []
    assert digest(owned.finetuned("2016", "d6", "scratch")) == trained_here(owned, tmp_path / "here")


def test_bad_input_is_the_failures_sentence_and_the_pod_is_kept(
    cluster: OwnCluster, placed: Deployment, owned: Workspace
) -> None:
    ran = Ran(owned, placed, argv=[*ARGV[:-1], "best"])
    assert "cells.scratch" in ran.sentence and "'best'" in ran.sentence and ran.tries == 1
    assert len(cluster.pods) == 1


def test_a_cancelled_run_lets_the_step_in_its_pod_save(
    cluster: OwnCluster, placed: Deployment, owned: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    workspace = restudy(owned, finetune={"epochs": 500, "seeds": 1})
    meanwhile(cluster, workspace, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert not Ran(workspace, placed).success
    assert "stcln: stopped by SIGTERM; run it again to go on." in capfd.readouterr().err
    assert [*workspace.root.glob(STATES)] and cluster.pods == []


def test_a_pod_without_the_claim_takes_and_gives_by_the_remote(
    cluster: OwnCluster, deployment: Deployment, s3: Seaweed, tmp_path: Path
) -> None:
    root, name = tmp_path / "workspace", f"test-remote-{os.getpid()}"
    real_study.make(root)
    real_study.call(root, "-m", "dvc", "remote", "add", "-q", "--default", "store", s3.bucket("pods"))
    os.chown(root, USER, USER)
    cluster.node = PodmanNode(deployment.mounts, host_network=True)  # S3 listens on loopback
    variables = {key: base64.b64encode(value.encode()).decode() for key, value in s3.environment.items()}
    podman("secret", "create", name, "-", input=json.dumps(variables))
    place = Cluster(namespace=NAMESPACE, secret=name)
    limits = {"*": Limits(disk="2Gi")}
    pods = Deployment(runner="kubernetes", results="remote", image=deployment.image, cluster=place, limits=limits)
    ledger = RemoteLedger(root)

    @dg.asset
    def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        made = runner(root, pods).run("fetch", ledger.argv("fetch"), context)["made"]
        assert ledger.commit("fetch", made) == ledger.version("fetch")
        return dg.MaterializeResult()

    try:
        assert dg.materialize([step], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False).success
    finally:
        podman("secret", "rm", name)
    spec = cluster.created[0]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp", "shm"]
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert spec["containers"][0]["resources"]["requests"] == {"ephemeral-storage": "2Gi"}
    assert cluster.pods == [] and not (root / "data").exists()
