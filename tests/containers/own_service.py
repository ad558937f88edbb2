"""The service of infra/compose.yaml on a small study, in real containers, and what a test does with it."""

import base64
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import yaml
from own_podman import CHECKOUT, IMAGE, USER, podman

from orchestration.deployment import Deployment

LAUNCH = """mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
    ... on RunConfigValidationInvalid {errors {message}}
  }
}"""
ADD = """mutation($selector: RepositorySelector!, $season: String!) {
  addDynamicPartition(repositorySelector: $selector, partitionsDefName: "season", partitionKey: $season) {__typename}
}"""
STATUS = """query($tag: [ExecutionTag!], $run: ID!) {
  runsOrError(filter: {tags: $tag}, limit: 1) {... on Runs {results {status}}}
  runOrError(runId: $run) {... on Run {status}}
}"""
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "stcln"}
START = 180.0  # seconds, on a busy machine
TRIES = 10
QUICK = 5  # seconds between two looks of the daemon at its runs


class Service:
    """The service on a workspace of its own, from a copy of infra/ at `directory`.

    Args:
        directory: Where that copy will be.
        root: The workspace.
        image: The image of Dagster's parts.
    """

    def __init__(self, directory: Path, root: Path, image: str) -> None:
        self.root, self.infra = root, directory / "infra"
        self.port, self.name = _free_port(), f"stcln-test-{os.getpid()}"
        shutil.copytree(CHECKOUT / "infra", self.infra, ignore=shutil.ignore_patterns(".env"))
        instance = yaml.safe_load((self.infra / "service/dagster.yaml").read_text())
        instance["run_monitoring"] |= {"poll_interval_seconds": QUICK, "free_slots_after_run_end_seconds": QUICK}
        self.instance = directory / "dagster.yaml"
        self.instance.write_text(yaml.safe_dump(instance))
        programs = Path(sys.executable).parent
        self.environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "ENGINE": "podman", "COMPOSE": "podman-compose",
            "COMPOSE_FILE": f"{self.infra}/compose.yaml:{Path(__file__).with_name('here.yaml')}",
            "COMPOSE_PROJECT_NAME": self.name, "STCLN_WORKSPACE": str(root), "STCLN_LISTEN": f"127.0.0.1:{self.port}",
            "STCLN_SERVICE_IMAGE": image, "HERE_INSTANCE": str(self.instance), "HERE_IMAGE": IMAGE,
            "HERE_ENVIRONMENT": sys.prefix,
        }  # fmt: skip

    def up(self) -> str:
        """Bring it up as `make up` does; gives what it printed."""
        return self._call(str(self.infra / "up"))

    def down(self, *words: str) -> None:
        """Bring it down as `make down` does."""
        self._call(str(self.infra / "down"), *words)

    def steps_in_containers(self, deployment: Deployment, daemon: str) -> None:
        """Let it run steps in containers of their own, from the next time it is up."""
        said, socket = self.instance.with_name("deployment.yaml"), Path(daemon.removeprefix("unix://"))
        said.write_text(yaml.safe_dump(deployment.model_dump(mode="json")))
        socket.chmod(0o666)
        self.environment |= {
            "COMPOSE_FILE": f"{self.environment['COMPOSE_FILE']}:{self.infra / 'compose.containers.yaml'}",
            "STCLN_ENGINE_SOCKET": str(socket), "STCLN_ENGINE_GROUP": "0", "STCLN_DEPLOYMENT": str(said),
        }  # fmt: skip

    def ready(self) -> bool:
        """Whether the webserver has loaded the assets."""
        return bool(self.ask("{assetNodes{id}}")["assetNodes"])

    def container(self, part: str) -> str:
        """The name of a part's container."""
        return f"{self.name}_{part}_1"

    def process(self, part: str) -> psutil.Process:
        """The first process of a part's container."""
        return psutil.Process(int(podman("inspect", "--format", "{{.State.Pid}}", self.container(part))))

    def printed(self, part: str) -> str:
        """What a part has printed."""
        words = ["podman", "logs", self.container(part)]
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def kill(self, part: str) -> None:
        """End a part at once; the engine starts it again."""
        self.process(part).send_signal(signal.SIGKILL)

    def workers(self) -> list[psutil.Process]:
        """The processes of runs whose step runs."""
        found = []
        for process in self.process("code").children(recursive=True):  # one look at all processes: a step may be short
            with suppress(psutil.Error):  # it has ended since it was listed
                if "orchestration.step" in process.cmdline():
                    found.append(process.parent())
        return [process for process in found if process]

    def kill_worker(self) -> None:
        """End the process of a run; its step is without it."""
        for process in self.workers():
            process.kill()

    def secret(self, name: str) -> str:
        """A value of infra/.env."""
        lines = (self.infra / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def admit(self, name: str, password: str) -> None:
        """Give a person a name at the door; the proxy knows it from its next start on."""
        said = subprocess.run(["caddy", "hash-password", "--plaintext", password], capture_output=True, check=True)
        with (self.infra / "service/users").open("a") as users:
            users.write(f"{name} {said.stdout.decode()}")

    def open(
        self, path: str, who: tuple[str, str] | None = None, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:  # fmt: skip
        """Ask the proxy for something as a person, or as the one of infra/.env."""
        name, password = who or (self.secret("STCLN_UI_USER"), self.secret("STCLN_UI_PASSWORD"))
        login = base64.b64encode(f"{name}:{password}".encode()).decode()
        sent = {**(headers or {}), "authorization": f"Basic {login}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, sent)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=60)
        return answer

    def ask(self, query: str, who: tuple[str, str] | None = None, **variables: Any) -> Any:
        """What GraphQL answers a person, who says to be another, through the proxy."""
        asked = json.dumps({"query": query, "variables": variables}).encode()
        sent = {"content-type": "application/json", "x-forwarded-user": "the minister"}
        for _ in range(TRIES):
            try:
                with self.open("graphql", who, asked, sent) as answer:
                    found = json.load(answer)
                break
            except urllib.error.HTTPError as error:  # one of its connections to a database that was away
                told = error
                time.sleep(1)
        else:
            raise told
        assert "errors" not in found, found
        return found["data"]

    def launch(self, asset: str, partition: str | None = None, who: tuple[str, str] | None = None) -> str:
        """Materialise an asset, as a click does; gives the run's id."""
        selector = {**REPOSITORY, "jobName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]}
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        (found,) = self.ask(LAUNCH, who, params=params).values()
        assert found["__typename"] == "LaunchRunSuccess", found
        return str(found["run"]["runId"])

    def edit(self, section: str, **values: Any) -> None:
        """Change a section of the study."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params[section] |= values
        path.write_text(yaml.safe_dump(params))

    def add_season(self, season: str) -> None:
        """Make a season a partition, if it is none."""
        self.ask(ADD, selector=REPOSITORY, season=season)

    def status(self, run: str) -> str:
        """A run's status; of one that was tried again, the last try's."""
        answer = self.ask(STATUS, tag=[{"key": "dagster/root_run_id", "value": run}], run=run)
        again = answer["runsOrError"]["results"]
        return str(again[0]["status"] if again else answer["runOrError"]["status"])

    def run_in(self, part: str, *words: str) -> str:
        """Run a command in a part's container, in the workspace; gives what it prints."""
        return podman("exec", "--workdir", str(self.root), self.container(part), *words)

    def _call(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.infra, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return str(done.stdout)


def wait(true: Callable[[], bool], what: str) -> None:
    """Wait until something is so; a service that does not answer yet is not so."""
    until = time.monotonic() + START
    while True:
        try:
            if true():
                return
        except (OSError, AssertionError, psutil.Error):
            pass
        assert time.monotonic() < until, f"not in {START:.0f} s: {what}"
        time.sleep(0.2)


def given_away(root: Path) -> None:
    """Make a workspace the property of the user of the containers."""
    for path in (root, *root.rglob("*")):
        os.chown(path, USER, USER)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
