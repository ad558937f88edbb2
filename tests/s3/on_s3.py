"""What the tests on a real S3 server share: simulated archives in a bucket, and listeners that kill the server."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from refusals import study
from seaweed import Seaweed
from tiny_study import restudy

from stcln.cli import run_verb
from stcln.data.simulate import archive
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


@pytest.fixture(scope="session")
def simulated(archives: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function: the simulated archive of a layout; `zarr` is the cube as a Zarr store, `pastis-r` has radar."""

    @cache
    def find(layout: str) -> Path:
        if layout in archives:
            return archives[layout]
        root = tmp_path_factory.mktemp(layout)
        if layout == "zarr":
            _as_zarr(archives["cube"] / "simulated_2018.nc", root / "simulated_2018.zarr")
            return root
        archive(root / layout, layout, ["2018"], 2, 12 if layout == "mtlcc-geotiff" else 8, 1, Silent())
        return root / layout

    return find


def _as_zarr(path: Path, target: Path) -> None:
    data = xr.open_dataset(path, mask_and_scale=False).load()
    for variable in data.variables.values():
        variable.encoding.clear()
    images = [name for name, variable in data.items() if variable.ndim == 3]
    data.to_zarr(target, encoding={name: {"chunks": (data.sizes["time"], 16, 16)} for name in images})


@pytest.fixture
def uploaded(simulated: Callable[[str], Path]) -> Callable[[Seaweed, str], str]:
    """A function: put a layout's simulated archive into a new bucket."""

    def put(server: Seaweed, layout: str) -> str:
        address = server.bucket(f"archive-{next(NUMBERS)}") + "/some/where"
        server.put(simulated(layout), address)
        return address

    return put


def workspace(root: Path, layout: str, source: str, **dataset: Any) -> Workspace:
    """A workspace of one season whose source is elsewhere."""
    root.mkdir(parents=True, exist_ok=True)
    study(root, {"zarr": "cube", "pastis-r": "pastis", "mtlcc-geotiff": "mtlcc"}.get(layout, layout), source=source,
          **dataset)  # fmt: skip
    return restudy(Workspace(root), dataset={"layout": layout} if layout == "mtlcc-geotiff" else {})


def run(space: Workspace, *words: str, listener: Silent | None = None) -> Mapping[str, Value]:
    """A verb in a workspace, in this process."""
    return run_verb([*words, "--workspace", str(space.root)], listener or Silent())


def content(directory: Path) -> dict[str, bytes]:
    """Every file but the lineage, which names the input."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lineage.json")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
