"""A real fine-tuning on two nodes, each a container, made by Kubeflow's SDK (its container backend) with our step."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow.trainer import ContainerBackendConfig, CustomTrainer, TrainerClient, TrainingRuntimeSource
from kubeflow.trainer.backends.container.adapters.docker import DockerClientAdapter
from own_pipes import pipes_to
from own_podman import CHECKOUT
from own_trainer import RUNTIME
from tiny_study import restudy

from orchestration.deployment import Deployment
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration

WORDS = ["finetune", "--season", "2016", "--length", "d6", "--arm", "scratch"]


def step(words: list[str]) -> None:
    """What every process of the job runs: the SDK takes its text along."""
    import runpy
    import sys

    sys.argv = ["step", *words]
    runpy.run_module("orchestration.step", run_name="__main__", alter_sys=True)


@pytest.fixture
def backend(
    deployment: Deployment, owned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TrainerClient]:
    """The SDK with podman, whose containers have what a pod has: the workspace, a /tmp, and the image's directories."""
    (tmp_path / "runtimes").mkdir()
    shutil.copyfile(RUNTIME, tmp_path / "runtimes/stcln-torch.yaml")
    for place in ("home", "tmp"):
        (tmp_path / place).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    reads = {str(path): {"bind": str(path), "mode": "ro"} for path in deployment.mounts}
    writes = {str(owned.root): str(owned.root), str(tmp_path / "tmp"): "/tmp"}
    mounts = {**reads, **{place: {"bind": inside, "mode": "rw"} for place, inside in writes.items()}}
    start = DockerClientAdapter.create_and_start_container

    def mounted(adapter: DockerClientAdapter, **settings: Any) -> str:
        settings["volumes"] |= mounts
        return start(adapter, **settings)

    monkeypatch.setattr(DockerClientAdapter, "create_and_start_container", mounted)
    source = TrainingRuntimeSource(sources=[f"file://{tmp_path / 'runtimes'}"])
    yield TrainerClient(ContainerBackendConfig(container_runtime="docker", pull_policy="Never", runtime_source=source))


def by_torchrun_here(workspace: Workspace, root: Path) -> Workspace:
    """The same by two processes of one machine, on a copy."""
    (root / "data").mkdir(parents=True)
    shutil.copyfile(workspace.root / "params.yaml", root / "params.yaml")
    shutil.copytree(workspace.seasons, root / "data/seasons")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stcln"]
    done = subprocess.run(
        [*torchrun, *WORDS], cwd=root, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Workspace(root)


def test_two_containers_train_as_one_and_give_the_bytes_of_two_processes_of_one_machine(
    backend: TrainerClient, deployment: Deployment, owned: Workspace, tmp_path: Path
) -> None:
    workspace = restudy(owned, finetune={"seeds": 1, "epochs": 2})
    messages = workspace.root / "messages"
    messages.touch()
    variables = {**pipes_to(messages), "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
    words = [*WORDS, "--workspace", str(workspace.root)]
    trainer = CustomTrainer(
        func=step, func_args={"words": words}, num_nodes=2, image=str(deployment.image), env=variables
    )
    name = backend.train(runtime="stcln-torch", trainer=trainer)
    try:
        job = backend.wait_for_job_status(name, {"Complete", "Failed"}, timeout=120, polling_interval=1)
        printed = ["\n".join(backend.get_job_logs(name, step=f"node-{node}")) for node in (0, 1)]
    finally:
        backend.delete_job(name)
    assert job.status == "Complete", printed
    told = [json.loads(line) for line in messages.read_text().splitlines()]
    assert [one["method"] for one in told].count("opened") == 1  # the first process alone tells
    assert "epoch" in printed[0] and "epoch" not in printed[1]
    assert digest(workspace.finetuned("2016", "d6", "scratch")) == digest(
        by_torchrun_here(workspace, tmp_path / "one").finetuned("2016", "d6", "scratch")
    )
