"""What differs between equal runs, kept outside a stage's outputs: when, where, with which versions, at what cost."""

import fcntl
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from stcln.errors import BadInput
from stcln.meter import Meter
from stcln.storage import digest, read_json, write_json
from stcln.workspace import Workspace

PACKAGES = ("stcln", "torch", "numpy", "zarr", "xarray", "rasterio", "torchmetrics", "onnx", "onnxruntime")


@contextmanager
def record(workspace: Workspace, stage: str, output: Path, processes: int = 1) -> Iterator[dict[str, Any]]:
    """Write `.stcln/runs/<stage>.json` when the block has ended well.

    What an interrupted process spent before is not in it, nor what other processes of a team spend.

    Args:
        workspace: Of the study.
        stage: Its name in dvc.yaml.
        output: What it writes; the record is of this output alone, see `read`.
        processes: That run it as one.

    Yields:
        A dict for what else is to be recorded.
    """
    began, meter, more = datetime.now(UTC), Meter(), dict[str, Any]()
    yield more
    write_json(
        workspace.run_record(stage),
        {
            **more,
            **meter.read(),
            "stage": stage,
            "output": _version_of(output),
            "started": began.isoformat(timespec="seconds"),
            "host": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "python": platform.python_version(),
            },
            "device": _device(),
            "processes": processes,
            "packages": {name: _version(name) for name in PACKAGES},
        },
    )


def read(workspace: Workspace, stage: str, output: Path) -> dict[str, Any] | None:
    """The record of the stage's last run here, if that made the output which stands; else None."""
    path = workspace.run_record(stage)
    try:
        found = read_json(path)
    except BadInput:  # no result rests on it
        return None
    made = _version_of(output)
    return found if made and isinstance(found, dict) and found.get("output") == made else None


@contextmanager
def alone(workspace: Workspace, stage: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a stage for the length of the block, so that no other process writes its output or resume state.

    The lock dies with its process; the empty file that carries it stays in `.stcln/`.

    Args:
        workspace: Where.
        stage: What to hold.
        wait: Until it is free.

    Raises:
        BadInput: Another process runs the stage, and this one does not wait.
    """
    path = workspace.lock(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BadInput(f"step {stage}", "it is running already in another process", "wait until it ends") from None
        yield


def _version_of(output: Path) -> str | None:
    """The digest of its lineage, which holds the digests of all its files."""
    lineage = output / "lineage.json"
    return digest(lineage) if lineage.exists() else None


def _device() -> str:
    torch = sys.modules.get("torch")  # a step that did not need it must not pay for its import
    if torch is None:
        return "none used"
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
