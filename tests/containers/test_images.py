"""The images of this checkout: what is in them, and that steps run in those for steps."""

import json
import os
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import real_study
from own_images import TARGETS
from own_podman import CHECKOUT, USER, podman, trained_here
from seaweed import Seaweed
from test_container import Ran, containers, volumes

from orchestration.deployment import Deployment, Limits
from orchestration.remote.ledger import RemoteLedger
from orchestration.runners.container import ContainerRunner
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]


def inside(image: str, *words: str) -> str:
    return podman("run", "--rm", "--read-only", "--tmpfs=/tmp", image, *words)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_not_roots_has_a_healthcheck_and_a_bill_of_materials(images: dict[str, str], target: str) -> None:
    (found,) = json.loads(podman("image", "inspect", images[target]))
    assert found["User"] == "10001:10001" and found["Healthcheck"]["Test"][0] == "CMD"
    parts = json.loads(inside(images[target], "cat", "/opt/stcln/sbom.cdx.json"))["components"]
    versions, debian = (
        {part["name"]: part["version"] for part in parts if part.get("purl", "").startswith(f"pkg:{kind}/")}
        for kind in ("pypi", "deb")
    )
    assert {"libc6", "libstdc++6"} < debian.keys()
    pinned = dict(re.findall(r"^([\w.-]+)==(.+)$", (CHECKOUT / "constraints.txt").read_text(), re.M))
    assert versions["torch"].partition("+")[0] == pinned["torch"] and versions["zarr"] == pinned["zarr"]
    assert ("dagster" in versions) is (target == "service") and ("dvc" in versions) is (target != "step")


@pytest.mark.parametrize("target", TARGETS)
def test_a_user_whom_the_image_does_not_know_has_a_name_and_writes_in_tmp(images: dict[str, str], target: str) -> None:
    look = "import getpass, tempfile; tempfile.TemporaryFile(); print(getpass.getuser())"
    words = ["--read-only", "--tmpfs=/tmp", "--passwd=false", "--user=4242:4242"]
    assert podman("run", "--rm", *words, images[target], "python", "-c", look) == "stcln\n"


def test_the_base_is_named_by_its_digest() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", (CHECKOUT / "infra/docker/Dockerfile").read_text(), re.M)


def test_no_secret_of_this_checkout_is_in_an_image(images: dict[str, str]) -> None:
    assert ".env" not in inside(images["service"], "ls", "-a", "/opt/app/infra")


def test_in_the_image_for_steps_a_step_gives_the_bytes_of_this_machine(
    images: dict[str, str], owned: Workspace, tmp_path: Path
) -> None:
    ran = Ran(owned, Deployment(runner="container", image=images["step"]))
    assert ran.success, ran.sentence
    assert digest(ran.output) == trained_here(owned, tmp_path / "here")
    assert inside(images["step"], "python", "-c", "import orchestration.step; print('well')") == "well\n"


def test_in_the_image_for_remote_results_a_step_sees_no_workspace_and_takes_and_gives_by_the_remote(
    images: dict[str, str], s3: Seaweed, tmp_path: Path
) -> None:
    root = tmp_path / "workspace"
    real_study.make(root)
    real_study.call(root, "-m", "dvc", "remote", "add", "-q", "--default", "store", s3.bucket("container"))
    os.chown(root, USER, USER)
    place = Deployment(
        runner="container", image=images["remote"], results="remote", network="host", environment=tuple(s3.environment)
    )
    ledger, runner, before = RemoteLedger(root), ContainerRunner(root, place), volumes()

    @dg.asset
    def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        for stage in ("fetch", "prepare@2018"):
            made = runner.run(stage, ledger.argv(stage), context)["made"]
            assert ledger.commit(stage, made) == ledger.version(stage)
        return dg.MaterializeResult()

    assert dg.materialize([step], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False).success
    assert str(root) not in runner.settings(Limits())["volumes"] and not (root / "data").exists()
    assert volumes() <= before and containers(Workspace(root)) == []


def test_the_image_of_the_services_loads_the_definitions_of_a_workspace(
    images: dict[str, str], owned: Workspace
) -> None:
    words = [
        "--volume",
        f"{owned.root}:{owned.root}",
        "--env",
        f"STCLN_WORKSPACE={owned.root}",
        "--env=HOME=/tmp",
        "--env=DAGSTER_HOME=/tmp",
    ]
    listed = podman(
        "run", "--rm", *words, images["service"], "dagster", "definitions", "validate", "--module-name",
        "orchestration.definitions",
    )  # fmt: skip
    assert "Traceback" not in listed
    for tool in (
        ["dagster-webserver", "--version"],
        ["dagster-daemon", "--help"],
        ["dvc", "--version"],
        ["git", "--version"],
    ):
        assert inside(images["service"], *tool)
