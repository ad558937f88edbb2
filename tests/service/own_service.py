"""A whole Dagster service: Postgres, S3, code server, webserver, daemon, each a process that a test may kill."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaweed import Seaweed

CHECKOUT = Path(__file__).parents[2]
SERVICE = CHECKOUT / "infra/service"
USER, PASSWORD, BUCKET = "dagster", "not-a-secret", "dagster"
LAUNCH = """mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
    ... on RunConfigValidationInvalid {errors {message}}
  }
}"""
ADD = """mutation($selector: RepositorySelector!, $season: String!) {
  addDynamicPartition(repositorySelector: $selector, partitionsDefName: "season", partitionKey: $season) {__typename}
}"""
STEPS = "query($run: ID!) {runOrError(runId: $run) {... on Run {stepStats {startTime}}}}"
STATUS = """query($tag: [ExecutionTag!], $run: ID!) {
  runsOrError(filter: {tags: $tag}, limit: 1) {... on Runs {results {status}}}
  runOrError(runId: $run) {... on Run {status}}
}"""
TRIES = 10
START = 180.0  # seconds, on a busy machine


class Postgres:
    """A server on loopback. It refuses to run as root: then it is the user `postgres`, in a directory of its own."""

    def __init__(self) -> None:
        self.home, self.port = Path(tempfile.mkdtemp(prefix="stcln-postgres-")), free_port()
        self.data, self.user = self.home / "data", "postgres" if os.geteuid() == 0 else None
        secret = self.home / "secret"
        secret.write_text(PASSWORD)
        if self.user:
            for path in (self.home, secret):
                shutil.chown(path, self.user)
        self._run("initdb", "-D", str(self.data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")

    def start(self) -> None:
        """Start it, or start it again on what a kill left."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.data}"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.home / "log"), "-o", options, "start")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait(lambda: not Path(f"/proc/{pid}").exists(), "Postgres ends")

    def _run(self, program: str, *words: str) -> None:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [str(postgres_program(program)), *words],
            user=self.user, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


class Service:
    """All of it on one workspace."""

    def __init__(self, directory: Path, root: Path, s3: Seaweed) -> None:
        self.root, self.s3, self.home = root, s3, _made(directory / "home")
        self.postgres = Postgres()
        self.ports = {name: free_port() for name in ("code", "webserver")}
        shutil.copyfile(SERVICE / "dagster.yaml", self.home / "dagster.yaml")
        self.environment = {
            **os.environ, **s3.environment, "DAGSTER_HOME": str(self.home), "STCLN_WORKSPACE": str(root),
            "STCLN_POSTGRES_HOST": "127.0.0.1", "STCLN_POSTGRES_PORT": str(self.postgres.port),
            "STCLN_POSTGRES_USER": USER, "STCLN_POSTGRES_PASSWORD": PASSWORD, "STCLN_POSTGRES_DB": "postgres",
            "STCLN_BUCKET": BUCKET, "STCLN_CODE_HOST": "127.0.0.1", "STCLN_CODE_PORT": str(self.ports["code"]),
            "PYTHONPATH": str(CHECKOUT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        at, loaded = ["-h", "127.0.0.1", "-p"], ["-w", str(SERVICE / "workspace.yaml")]
        definitions = ["-m", "orchestration.definitions"]
        self.commands = {
            "code": ["dagster", "code-server", "start", *definitions, *at, str(self.ports["code"])],
            "webserver": ["dagster-webserver", *loaded, *at, str(self.ports["webserver"])],
            "daemon": ["dagster-daemon", "run", *loaded],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything; returns when the webserver has loaded the assets."""
        self.s3.start()
        if not self.s3.system.exists(BUCKET):
            self.s3.bucket(BUCKET)
        self.postgres.start()
        for name in self.commands:
            self.start_one(name)
        wait(lambda: bool(self.ask("{assetNodes{id}}")["assetNodes"]), "the assets are loaded")

    def start_one(self, name: str) -> None:
        """Start a process of Dagster's."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], cwd=CHECKOUT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill_one(self, name: str) -> None:
        """End a process of Dagster's at once; a run that the code server started goes on without it."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()
        self.postgres.kill()
        shutil.rmtree(self.postgres.home)
        self.s3.kill()

    def ask(self, query: str, **variables: Any) -> Any:
        """What GraphQL answers, if need be at a later try."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['webserver']}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(), {"content-type": "application/json"},
        )  # fmt: skip
        for _ in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    found = json.load(answer)
                break
            except urllib.error.HTTPError as error:  # one of its connections to a database that was away
                told = error
                time.sleep(1)
        else:
            raise told
        assert "errors" not in found, found
        return found["data"]

    def launch(self, asset: str, season: str | None = None) -> str:
        """Materialise an asset, as a click does; gives the run's id."""
        selector = {
            "repositoryName": "__repository__", "repositoryLocationName": "stcln", "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]}],
        }  # fmt: skip
        tags = [{"key": "dagster/partition", "value": season}] if season else []
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        (found,) = self.ask(LAUNCH, params=params).values()
        assert found["__typename"] == "LaunchRunSuccess", found
        return str(found["run"]["runId"])

    def add_season(self, season: str) -> None:
        """Make a season a partition, if it is none."""
        selector = {"repositoryName": "__repository__", "repositoryLocationName": "stcln"}
        self.ask(ADD, selector=selector, season=season)

    def steps(self, run: str) -> int:
        """How many of a run's steps have begun."""
        return len(self.ask(STEPS, run=run)["runOrError"]["stepStats"])

    def status(self, run: str) -> str:
        """A run's status; of one that was tried again, the last try's."""
        answer = self.ask(STATUS, tag=[{"key": "dagster/root_run_id", "value": run}], run=run)
        again = answer["runsOrError"]["results"]
        return str(again[0]["status"] if again else answer["runOrError"]["status"])


def postgres_program(name: str) -> Path | None:
    """A program of Postgres; Debian keeps them off the path."""
    on_path = shutil.which(name)
    return Path(on_path) if on_path else max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), default=None)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(true: Callable[[], bool], what: str) -> None:
    """Wait until something is so; a server that does not answer yet is not so."""
    until = time.monotonic() + START
    while True:
        try:
            if true():
                return
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < until, f"not in {START:.0f} s: {what}"
        time.sleep(0.2)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
