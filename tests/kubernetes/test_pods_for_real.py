"""The very pods of the API server, run by podman: what the step may do in one, what it makes, and that it saves."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_cluster import OwnCluster, PodmanNode
from own_podman import USER, podman, trained_here
from step_in_cluster import ARGV, Ran
from tiny_study import restudy

from orchestration.deployment import Deployment, Limits
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration

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
