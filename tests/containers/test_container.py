"""Steps in real containers: what they may do, how each end is told, and that nothing is left behind."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import docker
import pytest
from own_podman import CHECKOUT, USER, podman, trained_here
from tiny_study import restudy

from orchestration.deployment import Deployment, Limits
from orchestration.runners import pipes
from orchestration.runners.container import ContainerRunner
from orchestration.runners.endings import Ending
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

STAGE = "scratch@2016-d6-scratch"
ARGV = ["python", "-m", "stcln", "finetune", "--season", "2016", "--length", "d6", "--arm", "scratch"]
STATES = ".stcln/resume/*/seed-*/[0-9]*/state.json"
LONG = {"epochs": 500, "seeds": 1}


class Ran:
    """A step in a run of its own, and what Dagster knows of it."""

    def __init__(self, workspace: Workspace, deployment: Deployment, argv: list[str] = ARGV) -> None:
        @dg.asset
        def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            runner = ContainerRunner(workspace.root, deployment)
            return dg.MaterializeResult(metadata={**runner.run(STAGE, argv, context)})

        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([step], instance=instance, raise_on_error=False)
            self.logs = [entry.user_message for entry in instance.all_logs(result.run_id)]
        self.success, self.events = result.success, result.all_events
        self.output = workspace.finetuned("2016", "d6", "scratch")

    @property
    def sentence(self) -> str:
        """Why it failed, as the user reads it."""
        (failed,) = (event for event in self.events if event.is_step_failure)
        data = failed.step_failure_data
        return str(data.user_failure_data.description if data.user_failure_data else data.error)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "PAUSE", 0)


def containers(workspace: Workspace) -> list[str]:
    """The containers of a workspace; those of other tests may stand beside."""
    return podman("ps", "--all", "--filter", f"label=stcln={workspace.root}", "--format", "{{.Names}}").split()


def volumes() -> set[str]:
    """Those without a name of their own, which are to go with their containers."""
    return {name for name in podman("volume", "ls", "--quiet").split() if len(name) == 64}


def meanwhile(workspace: Workspace, action: Callable[[str], object]) -> None:
    """Call `action` with the running container's name as soon as the training has a state."""

    def wait() -> None:
        while not [*workspace.root.glob(STATES)]:
            time.sleep(0.02)
        action(containers(workspace)[0])

    threading.Thread(target=wait, daemon=True).start()


def test_a_step_runs_confined_and_gives_the_bytes_of_a_local_run(
    owned: Workspace, deployment: Deployment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []
    process: list[str] = []

    def look(name: str) -> None:
        seen.append(docker.from_env().containers.get(name).attrs)
        process.append(Path(f"/proc/{seen[0]['State']['Pid']}/status").read_text())

    meanwhile(owned, look)
    limits = {"scratch@*": Limits(cpus=1.5, memory="2Gi"), "*-full-*": Limits(memory="1Gi")}
    ran = Ran(owned, deployment.model_copy(update={"limits": limits}))
    assert ran.success, ran.sentence
    host, status = seen[0]["HostConfig"], dict(line.split(":\t", 1) for line in process[0].splitlines())
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
    assert host["ReadonlyRootfs"] and host["Memory"] == 2 << 30 and host["NanoCpus"] == 1_500_000_000
    assert ran.output.stat().st_uid == USER
    assert containers(owned) == [] and [*owned.root.glob(".stcln/pipes-*")] == []
    assert "epoch 6/6" in capfd.readouterr().err  # what the step prints
    assert any("epoch 6/6" in text for text in ran.logs)  # what it tells Dagster
    assert digest(ran.output) == trained_here(owned, tmp_path / "here")


def test_bad_input_is_the_failures_sentence(owned: Workspace, deployment: Deployment) -> None:
    ran = Ran(owned, deployment, [*ARGV[:-1], "best"])
    assert "cells.scratch" in ran.sentence and "'best'" in ran.sentence and containers(owned) == []


def test_a_cancelled_run_lets_the_step_save_and_removes_the_container(
    owned: Workspace, deployment: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    began = []

    def cancel(_: str) -> None:
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    workspace = restudy(owned, finetune=LONG)
    meanwhile(workspace, cancel)
    assert not Ran(workspace, deployment).success
    assert time.monotonic() - began[0] < 20
    assert "stcln: stopped by SIGTERM; run it again to go on." in capfd.readouterr().err
    assert [*workspace.root.glob(STATES)] and containers(workspace) == []


def test_a_container_killed_from_outside_is_started_again_and_goes_on(owned: Workspace, deployment: Deployment) -> None:
    workspace = restudy(owned, finetune={"epochs": 40, "seeds": 1})
    meanwhile(workspace, lambda name: podman("kill", name))
    ran = Ran(workspace, deployment)
    assert ran.success, ran.sentence
    assert any("its container was killed" in text and "(exit status 137)" in text for text in ran.logs)
    assert any(text.startswith("resumed") for text in ran.logs) and containers(workspace) == []


def test_memory_that_runs_out_is_told_with_the_limit(owned: Workspace, deployment: Deployment) -> None:
    ran = Ran(owned, deployment.model_copy(update={"limits": {"*": Limits(memory="64Mi")}}))
    assert "needs more memory than the 64Mi that `limits` gives it" in ran.sentence
    assert "(exit status 137)" in ran.sentence and containers(owned) == []


@pytest.mark.parametrize(
    ("ending", "again", "said"),
    [
        (Ending(137, True, "4Gi"), False, "more memory than the 4Gi that `limits` gives it; raise it"),
        (Ending(137, True, None), False, "more memory than this machine has"),
        (Ending(137, False, "4Gi"), True, "killed, from outside or because it needs more memory than the 4Gi"),
        (Ending(143, False, None), True, "stopped from outside"),
        (Ending(127, False, None), False, "image i cannot start it"),
        (Ending(1, False, None), False, "its last lines say why"),
    ],
)
def test_an_exit_status_is_a_sentence_and_says_whether_to_try_again(ending: Ending, again: bool, said: str) -> None:
    assert ending.again is again
    assert said in ending.sentence(STAGE, "i") and f"(exit status {ending.status})" in ending.sentence(STAGE, "i")


def test_an_image_that_is_missing_is_told_and_not_tried_again(owned: Workspace, deployment: Deployment) -> None:
    ran = Ran(owned, deployment.model_copy(update={"image": "localhost/no-such:image"}))
    assert "localhost/no-such:image: it is not here" in ran.sentence and "make images" in ran.sentence
    assert not any(event.is_step_up_for_retry for event in ran.events) and containers(owned) == []


def test_what_the_daemon_refuses_is_told_and_leaves_no_container(owned: Workspace, deployment: Deployment) -> None:
    ran = Ran(owned, deployment.model_copy(update={"network": "no-such-network"}))
    assert "the daemon refuses the container" in ran.sentence and "no-such-network" in ran.sentence
    assert "not here" not in ran.sentence and containers(owned) == []


def test_an_image_without_the_program_is_told(
    owned: Workspace, deployment: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = Ran(owned, deployment.model_copy(update={"mounts": ()}))
    assert "its last lines say why (exit status 1)" in ran.sentence  # podman's init; docker's gives 127
    assert "failed to exec" in capfd.readouterr().err and containers(owned) == []


def test_a_daemon_that_is_absent_is_tried_again_and_then_told(
    owned: Workspace, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/podman.sock")
    ran = Ran(owned, deployment)
    assert "no container daemon answers" in ran.sentence and "DOCKER_HOST" in ran.sentence
    assert sum(event.is_step_up_for_retry for event in ran.events) == pipes.TRIES - 1


def test_an_image_of_other_code_is_refused(owned: Workspace, deployment: Deployment, tmp_path: Path) -> None:
    for package in ("stcln", "orchestration"):
        shutil.copytree(CHECKOUT / package, tmp_path / "other" / package)
    with (tmp_path / "other/stcln/training/loop.py").open("a") as file:
        file.write("# changed\n")
    mounts = [path for path in deployment.mounts if path != CHECKOUT]
    podman(
        "build", "--tag", "localhost/other", "-", input=f"FROM {deployment.image}\nENV PYTHONPATH={tmp_path}/other\n"
    )
    change = {"image": "localhost/other", "mounts": (*mounts, tmp_path / "other")}
    ran = Ran(owned, deployment.model_copy(update=change))
    assert "its code of finetune is another" in ran.sentence and "build the image again" in ran.sentence
    assert not ran.output.exists()


def test_what_a_killed_run_has_left_is_stopped_and_removed_but_not_what_another_runs(
    owned: Workspace, deployment: Deployment
) -> None:
    label = {"stcln": str(owned.root), "stcln.stage": STAGE}
    words = [word for name, value in label.items() for word in ("--label", f"{name}={value}")]
    image = ["--volume", "/usr:/usr:ro", str(deployment.image)]
    for name, stage in (("left", STAGE), ("other", "pretrain")):
        labels = [*words, "--label", "stcln.run=gone", "--label", f"stcln.stage={stage}"]
        podman("run", "--detach", "--init", "--replace", "--name", name, *labels, *image, "/usr/bin/sleep", "600")
    try:
        ran = Ran(owned, deployment)
        assert ran.success, ran.sentence
        assert containers(owned) == ["other"] and any("left was left by a run" in text for text in ran.logs)
    finally:
        podman("rm", "--force", "other")


def test_a_workspace_of_root_is_refused(tiny_workspace: Workspace, deployment: Deployment) -> None:
    assert "belongs to root" in Ran(tiny_workspace, deployment).sentence


def test_a_gpu_is_asked_for_where_the_deployment_gives_one(owned: Workspace) -> None:
    runner = ContainerRunner(owned.root, Deployment(runner="container", image="i"))
    assert "device_requests" not in runner.settings(Limits())
    (asked,) = runner.settings(Limits(gpus=2))["device_requests"]
    assert asked["Count"] == 2 and asked["Capabilities"] == [["gpu"]]
