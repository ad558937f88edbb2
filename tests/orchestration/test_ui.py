"""The UI as a process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from own_ui import Ui
from real_study import CHECKOUT, alive
from toy_workspace import Toy

pytestmark = pytest.mark.orchestration


def test_the_ui_serves_every_asset_and_an_interrupt_ends_all_its_processes(toy: Toy, tmp_path: Path) -> None:
    ui = Ui(toy.root, tmp_path / "log")
    try:
        served = ui.asked("{assetNodes{assetKey{path}}}")
        family = psutil.Process(ui.process.pid).children(recursive=True)
    finally:
        code = ui.interrupt()
    assert {node["assetKey"]["path"][0] for node in served["assetNodes"]} == {
        *(step.asset.to_user_string() for step in toy.plan.steps()), "champion", "champion_rollback",
    }  # fmt: skip
    assert code == 0, ui.log.read_text()
    assert len(family) >= 3  # webserver, daemon, code server
    for _ in range(60):  # the code server's own child sees that it is alone
        if not any(alive(process) for process in family):
            break
        time.sleep(0.5)
    assert not [process.cmdline() for process in family if alive(process)]
    assert (toy.root / ".dagster/dagster.yaml").exists()
    assert "Traceback" not in ui.log.read_text()


@pytest.mark.parametrize("module", ["ui", "study", "champion"])
def test_a_workspace_that_is_not_there_is_a_sentence_and_no_directory_is_made(tmp_path: Path, module: str) -> None:
    words = ["promote", "--why", "now"] if module == "champion" else []
    there = {**os.environ, "STCLN_WORKSPACE": str(tmp_path / "nowhere"), "PYTHONPATH": str(CHECKOUT)}
    said = subprocess.run(
        [sys.executable, "-m", f"orchestration.{module}", *words],
        env=there,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode != 0 and "nowhere" in said.stderr and "Traceback" not in said.stderr
    assert not (tmp_path / "nowhere").exists()
