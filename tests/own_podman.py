"""A real podman that serves docker's API for the length of the tests, and an image made of what this machine has.

The image holds no file but links: `/usr`, the interpreter and the checkout are mounted, so that it is made in a moment.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orchestration.deployment import Deployment
    from stcln.workspace import Workspace

CHECKOUT = Path(__file__).parents[1]
IMAGE = f"localhost/stcln-of-{md5(str(CHECKOUT).encode()).hexdigest()[:8]}"  # each checkout its own: the image names it
USER = 10001
ROOM = ("tmp", "data", "var/lib/postgresql/data", "var/lib/dagster")
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
CONFIG = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[network]
network_backend = "netavark"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


def podman(*words: str, **more: object) -> str:
    """Run podman; gives what it prints."""
    done = subprocess.run(["podman", *words], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the daemon; DOCKER_HOST names it."""
    if os.geteuid() != 0 or not shutil.which("podman"):
        pytest.skip("no podman here, or not root: apt-get install podman runc netavark, as tests/install does")
    home = tmp_path_factory.mktemp("podman")
    (home / "containers.conf").write_text(CONFIG)
    address = f"unix://{home}/podman.sock"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CONTAINERS_CONF", str(home / "containers.conf"))
        patched.setenv("DOCKER_HOST", address)
        command = ["podman", "system", "service", "--time=0", address]
        server = subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL)  # it leaves a file where memory ran out
        while not (home / "podman.sock").exists():
            assert server.poll() is None
            time.sleep(0.05)
        yield address
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def image(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image in which a step runs, given the mounts of `deployment`."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for name, target in LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name in ROOM:
            room = tarfile.TarInfo(name)
            room.type, room.mode, room.uid, room.gid = tarfile.DIRTYPE, 0o1777, USER, USER
            tar.addfile(room)
        passwd = tarfile.TarInfo("etc/passwd")
        text = f"root:x:0:0::/:/bin/sh\nstep:x:{USER}:{USER}::/tmp:/bin/sh\n".encode()
        passwd.size = len(text)
        tar.addfile(passwd, io.BytesIO(text))
    path = f"{sys.prefix}/bin:/usr/bin"
    changes = [f"ENV PATH={path}", f"ENV PYTHONPATH={CHECKOUT}", "ENV HOME=/tmp", "ENV PYTHONDONTWRITEBYTECODE=1"]
    podman("import", *(word for change in changes for word in ("--change", change)), str(archive), IMAGE)
    words = ["run", "--rm", "--volume=/usr:/usr:ro", IMAGE, "/usr/bin/true"]
    tried = subprocess.run(["podman", *words], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"podman can run no container here: {tried.stderr[-300:]}")
    return IMAGE


@pytest.fixture
def deployment(image: str) -> "Deployment":
    """Steps run in that image."""
    from orchestration.deployment import Deployment

    places = {Path(place).resolve() for place in ("/usr", "/etc/ssl", sys.prefix, sys.base_prefix, CHECKOUT)}
    return Deployment(runner="container", image=image, mounts=tuple(sorted(places)))


@pytest.fixture
def owned(tiny_workspace: "Workspace") -> "Workspace":
    """The tiny workspace, of a user who is not root."""
    for path in (tiny_workspace.root, *tiny_workspace.root.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, USER, USER)
    return tiny_workspace


def trained_here(workspace: "Workspace", root: Path) -> str:
    """The digest of the models that this process makes of a copy of the workspace at `root`."""
    from stcln.events import Silent
    from stcln.storage import digest
    from stcln.training.finetune import finetune
    from stcln.workspace import Workspace

    (root / "data").mkdir(parents=True)
    shutil.copyfile(workspace.root / "params.yaml", root / "params.yaml")
    shutil.copytree(workspace.seasons, root / "data/seasons")
    finetune(Workspace(root), "2016", "d6", "scratch", Silent())
    return digest(Workspace(root).finetuned("2016", "d6", "scratch"))
