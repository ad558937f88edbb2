"""What differs between equal runs, kept outside a stage's outputs: when, where, for how long, with which versions."""

import fcntl
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata

from stcln.errors import BadInput
from stcln.storage import write_json
from stcln.workspace import Workspace

PACKAGES = ("stcln", "torch", "numpy", "zarr", "xarray", "rasterio", "torchmetrics", "onnx", "onnxruntime")


@contextmanager
def record(workspace: Workspace, stage: str) -> Iterator[None]:
    """Write `.stcln/runs/<stage>.json` when the block has ended well."""
    began, clock = datetime.now(UTC), time.perf_counter()
    yield
    write_json(
        workspace.run_record(stage),
        {
            "stage": stage,
            "started": began.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "host": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "python": platform.python_version(),
            },
            "device": _device(),
            "packages": {name: _version(name) for name in PACKAGES},
        },
    )


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
