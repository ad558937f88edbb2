"""The images of this checkout, built by podman on a Debian made here."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

import pytest
from own_podman import CHECKOUT, podman

TARGETS = ("step", "remote", "service")
DEBIAN = ("--variant=essential", "--include=python3,python3-venv,libstdc++6,ca-certificates,git,adduser", "bookworm")
BASE = f"localhost/stcln-base:{md5(repr(DEBIAN).encode()).hexdigest()[:8]}"


@pytest.fixture(scope="session")
def base(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python; kept by podman from one run of the tests to the next."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("no mmdebstrap here: tests/install gets it")
    with _alone():
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
def images(base: str) -> dict[str, str]:
    """The name of the image of each target; what one worker has built, another finds in podman's cache."""
    words = [f"--build-arg=BASE={base}", "--network=host", *pip_as_here()]
    build = " ".join(f"'{word}'" for word in words)
    with _alone():
        secrets = CHECKOUT / "infra/.env"
        if not (there := secrets.exists()):
            secrets.touch()
        done = subprocess.run(
            ["make", *TARGETS, "ENGINE=podman", f"BUILD={build}"], cwd=CHECKOUT, capture_output=True, text=True,
            env={**os.environ, "BUILDAH_LAYERS": "true"}, check=False,
        )  # fmt: skip
        if not there:
            secrets.unlink()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    version = re.search(r'^version = "(.+)"', (CHECKOUT / "pyproject.toml").read_text(), re.M)
    assert version
    return {target: f"stcln-{target}:{version[1]}" for target in TARGETS}


@contextmanager
def _alone() -> Iterator[None]:
    """Of the processes of the tests one at a time."""
    with (Path(tempfile.gettempdir()) / "stcln-test-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
