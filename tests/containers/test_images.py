"""The images of this checkout, built on a Debian made here: what is in them, and that a step runs in one."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pytest
from own_podman import CHECKOUT, podman, trained_here
from test_container import Ran

from orchestration.deployment import Deployment
from stcln.storage import digest
from stcln.workspace import Workspace

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

DEBIAN = ("--variant=essential", "--include=python3,python3-venv,libstdc++6,ca-certificates,git,adduser", "bookworm")
BASE = f"localhost/stcln-base:{md5(repr(DEBIAN).encode()).hexdigest()[:8]}"


@pytest.fixture(scope="session")
def base(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python; kept by podman from one run of the tests to the next."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("no mmdebstrap here: tests/install gets it")
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        archive = tmp_path_factory.mktemp("base") / "base.tar"
        made = subprocess.run(["mmdebstrap", "--quiet", *DEBIAN, str(archive)], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no Debian can be made here: {made.stderr[-300:]}")
        podman("import", str(archive), BASE)
    return BASE


def pip_as_here() -> list[str]:
    """What lets pip find packages in a build as it does here: its settings, and the places that they name."""
    told = subprocess.run(["python", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    taken, places = [], set[Path]()
    for line in told.splitlines():
        name, value = line.split("=", 1)
        variable = "PIP_" + name.partition(".")[2].upper().replace("-", "_")
        if variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"):
            value = value.strip("'").replace("\\n", " ")
            taken.append(f"--build-arg={variable}={value}")
            places |= {Path(place) for place in re.findall(r"(?<!:/)(?:file://)?(/[^ ]+)", value)}
    beside = {place.parent if place.is_file() or place.name == "simple" else place for place in places}
    return [*taken, *(f"--volume={place}:{place}:ro" for place in beside if place.exists())]


@pytest.fixture(scope="session")
def images(base: str) -> Iterator[dict[str, str]]:
    """The names of both images."""
    words = [f"--build-arg=BASE={base}", "--network=host", *pip_as_here()]
    build = " ".join(f"'{word}'" for word in words)
    secrets = CHECKOUT / "infra/.env"
    if not (there := secrets.exists()):
        secrets.touch()
    done = subprocess.run(
        ["make", "images", "ENGINE=podman", f"BUILD={build}"], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "BUILDAH_LAYERS": "true"}, check=False,
    )  # fmt: skip
    if not there:
        secrets.unlink()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    version = re.search(r'^version = "(.+)"', (CHECKOUT / "pyproject.toml").read_text(), re.M)
    assert version
    return {target: f"stcln-{target}:{version[1]}" for target in ("step", "service")}


def inside(image: str, *words: str) -> str:
    return podman("run", "--rm", "--read-only", "--tmpfs=/tmp", image, *words)


@pytest.mark.parametrize("target", ["step", "service"])
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
    assert ("dagster" in versions) is (target == "service")


@pytest.mark.parametrize("target", ["step", "service"])
def test_a_user_whom_the_image_does_not_know_has_a_name_and_writes_in_tmp(images: dict[str, str], target: str) -> None:
    look = "import getpass, tempfile; tempfile.TemporaryFile(); print(getpass.getuser())"
    words = ["--read-only", "--tmpfs=/tmp", "--passwd=false", "--user=4242:4242"]
    assert podman("run", "--rm", *words, images[target], "python", "-c", look) == "stcln\n"


def test_no_secret_of_this_checkout_is_in_an_image(images: dict[str, str]) -> None:
    assert ".env" not in inside(images["service"], "ls", "-a", "/opt/app/infra")


def test_in_the_image_for_steps_a_step_gives_the_bytes_of_this_machine(
    images: dict[str, str], owned: Workspace, tmp_path: Path
) -> None:
    ran = Ran(owned, Deployment(runner="container", image=images["step"]))
    assert ran.success, ran.sentence
    assert digest(ran.output) == trained_here(owned, tmp_path / "here")
    assert inside(images["step"], "python", "-c", "import orchestration.step; print('well')") == "well\n"


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
