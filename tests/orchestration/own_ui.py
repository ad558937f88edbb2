"""The UI of a workspace as a process, as `make ui` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from real_study import workspace


class Ui:
    """Started when made; its log is `log`."""

    def __init__(self, root: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestration.ui", str(self.port)],
                cwd=root, env=workspace(root), stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip

    def asked(self, query: str) -> dict[str, Any]:
        """What its GraphQL answers, once it does with all it has loaded."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", json.dumps({"query": query}).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        for _ in range(240):
            try:
                with urllib.request.urlopen(request) as answer:
                    data: dict[str, Any] = json.load(answer)["data"]
                    if all(data.values()):
                        return data
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def interrupt(self) -> int:
        """End it as Ctrl-C does; gives its exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
