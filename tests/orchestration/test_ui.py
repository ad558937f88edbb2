"""The UI as a process."""

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

import psutil
import pytest
from real_study import alive, workspace
from toy_workspace import Toy

pytestmark = pytest.mark.orchestration


def test_the_ui_serves_every_asset_and_an_interrupt_ends_all_its_processes(toy: Toy, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as stream:
        ui = subprocess.Popen(
            [sys.executable, "-m", "orchestration.ui", str(port)],
            cwd=toy.root, env=workspace(toy.root), stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        served = _asked(port, "{assetNodes{assetKey{path}}}")
        family = psutil.Process(ui.pid).children(recursive=True)
    finally:
        os.killpg(ui.pid, signal.SIGINT)  # as Ctrl-C does
        try:
            code = ui.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(ui.pid, signal.SIGKILL)
            raise
    assert {node["assetKey"]["path"][0] for node in served["assetNodes"]} == {
        *(step.asset.to_user_string() for step in toy.plan.steps()), "champion", "champion_rollback",
    }  # fmt: skip
    assert code == 0, log.read_text()
    assert len(family) >= 3  # webserver, daemon, code server
    for _ in range(60):  # the code server's own child sees that it is alone
        if not any(alive(process) for process in family):
            break
        time.sleep(0.5)
    assert not [process.cmdline() for process in family if alive(process)]
    assert (toy.root / ".dagster/dagster.yaml").exists()
    assert "Traceback" not in log.read_text()


def _asked(port: int, query: str) -> dict[str, Any]:
    """What the UI's GraphQL answers, once it does with all it has loaded."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"content-type": "application/json"}
    )
    for _ in range(120):
        try:
            with urllib.request.urlopen(request) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
                if data["assetNodes"]:
                    return data
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    raise AssertionError("the UI did not come up in a minute")
