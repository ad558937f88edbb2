"""The smallest real study: the demo cut to one season, one length, one seed and one epoch."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import yaml

from stcln.new import make as new

CHECKOUT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(CHECKOUT),
    "OMP_NUM_THREADS": "1",
}
ENVIRONMENT.pop("DAGSTER_HOME", None)


def make(root: Path) -> None:
    """Make a workspace that has not run."""
    new(root, "demo", None)
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["simulation"] = {"tiles": 8, "size": 24, "dates": 8}
    params["cells"] |= {"season": [2018], "length": ["full"]}
    params["lengths"] = {"full": {"dates": 3}}
    params["pretrain"] |= {"seasons": [2018], "length": "full", "epochs": 1}
    params["finetune"] |= {"seeds": 1, "epochs": 1}
    path.write_text(yaml.safe_dump(params))
    call(root, "-m", "stcln", "new", ".", "--update")
    if not (root / ".dvc").exists():  # `dvc` is not on the path of every test run
        call(root, "-m", "dvc", "init", "-q")


def call(root: Path, *words: str) -> str:
    """Run Python in the workspace; gives what it printed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=workspace(root), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def workspace(root: Path) -> dict[str, str]:
    """The environment of a process that works on a workspace."""
    return {**ENVIRONMENT, "STCLN_WORKSPACE": str(root)}


def alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
