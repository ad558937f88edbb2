"""A toy study whose source is a directory of small cubes, and ticks of its sensors as a daemon makes them."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import xarray as xr
from toy_workspace import Toy

from orchestration.definitions import build_defs


def cube(path: Path, season: str | None, year: int = 2019) -> None:
    """A cube of one date, band and tile; its attribute `season` if given."""
    data = xr.Dataset(
        {
            "B04": (("time", "y", "x"), np.full((1, 4, 4), 500, np.uint16)),
            "crop": (("y", "x"), np.zeros((4, 4), np.uint8), {"flag_values": [0], "flag_meanings": "maize"}),
        },
        {"time": np.array([f"{year}-05-01"], "M8[ns]"), "y": 95.0 - 10 * np.arange(4), "x": 5.0 + 10 * np.arange(4)},
        {"crs": "EPSG:32631"} | ({"season": season} if season else {}),
    )
    data.to_zarr(path) if path.suffix == ".zarr" else data.to_netcdf(path, engine="netcdf4")


def watch(toy: Toy) -> Path:
    """Give the toy study a source with cubes of its two seasons; the source."""
    source = toy.root / "source"
    source.mkdir()
    for year in (2018, 2019):
        cube(source / f"{year}.nc", None, year)
    toy.edit("source: simulated", "source: source")
    toy.edit("layout: mtlcc\n  root: data_IJGI18/datasets/full/240", "layout: cube\n  tile: 4\n  root: .")
    toy.edit("ignore: [unknown]", "ignore: []")
    return source


def tick(
    defs: dg.Definitions, name: str, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    """What a sensor answers to one tick."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=defs.get_repository_def())
    result = defs.resolve_sensor_def(name)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def report(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    """What the daemon does with a tick's result."""
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))


class Told:
    """A notifier that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def tell(self, title: str, text: str, log: Any) -> None:
        self.messages.append((title, text))


class Daemon:
    """Ticks the season sensor of a toy study, and keeps its cursor as a restart does."""

    def __init__(self, toy: Toy, instance: dg.DagsterInstance) -> None:
        self.defs, self.instance = build_defs(toy.root, toy.resources), instance
        self.cursor: str | None = None

    def tick(self, *, killed: bool = False) -> dg.SensorResult:
        """One tick; of one that is killed before it could answer, nothing is kept."""
        result = tick(self.defs, "new_season", self.instance, self.cursor)
        assert isinstance(result, dg.SensorResult)
        if not killed:
            report(self.instance, result)
            self.cursor = result.cursor
        return result

    def says(self) -> str:
        """Why a tick launches nothing."""
        result = self.tick()
        assert not result.run_requests and isinstance(result.skip_reason, dg.SkipReason)
        return str(result.skip_reason.skip_message)
