"""What the tests on a real S3 server share: simulated archives in a bucket, and listeners that kill the server."""

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from refusals import study
from seaweed import Seaweed

from stcln.cli import run_verb
from stcln.events import Silent, Value
from stcln.workspace import Workspace

NUMBERS = count()


class Until(Silent):
    """Does something once, when so much of a kind of work is done."""

    def __init__(self, what: str, done: int, then: Callable[[], None]) -> None:
        self.what, self.done, self.then = what, done, then
        self.over = False

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        if not self.over and what.startswith(self.what) and done >= self.done:
            self.over = True
            self.then()


@pytest.fixture
def uploaded(archives: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Seaweed, str], str]:
    """A function: put a layout's simulated archive into a new bucket; `zarr` is the cube as a Zarr store."""

    def put(server: Seaweed, layout: str) -> str:
        address = server.bucket(f"archive-{next(NUMBERS)}") + "/some/where"
        if layout == "zarr":
            local = tmp_path_factory.mktemp("zarr")
            data = xr.open_dataset(archives["cube"] / "simulated_2018.nc", mask_and_scale=False).load()
            for variable in data.variables.values():
                variable.encoding.clear()
            images = [name for name, variable in data.items() if variable.ndim == 3]
            chunks = {name: {"chunks": (data.sizes["time"], 8, 8)} for name in images}
            data.to_zarr(local / "simulated_2018.zarr", encoding=chunks)
            server.put(local, address)
        else:
            server.put(archives[layout], address)
        return address

    return put


def workspace(root: Path, layout: str, source: str, **dataset: Any) -> Workspace:
    """A workspace of one season whose source is elsewhere."""
    root.mkdir(parents=True, exist_ok=True)
    study(root, "cube" if layout == "zarr" else layout, source=source, **dataset)
    return Workspace(root)


def run(space: Workspace, *words: str, listener: Silent | None = None) -> Mapping[str, Value]:
    """A verb in a workspace, in this process."""
    return run_verb([*words, "--workspace", str(space.root)], listener or Silent())


def content(directory: Path) -> dict[str, bytes]:
    """Every file but the lineage, which names the input."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lineage.json")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
