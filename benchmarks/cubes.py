"""How a cube larger than memory is read, on a generated cube. Prints JSON lines.

    python benchmarks/cubes.py [--side 1024] [--dates 46]

Every tile is read through the reader of cubes, in a fresh process for each form of the file, which tells its highest
memory. Beside it, in the same process and as ratios: each chunk of the file decoded once and nothing made of it; and
some of the tiles each read alone, as if tiles were cut one by one, told for all of them. Seconds are of CPU, and the
file lies in the page cache.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stcln.data.readers import blocks
from stcln.data.readers.cube import Cube
from stcln.data.readers.cubes import Cubes
from stcln.study import Dataset

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
IMAGES = (*BANDS, "SCL")
TILE = 32
PART = 32  # tiles that are read each alone
FORMS = {
    "zarr, 128 x 128 pixels of all dates": ("zarr", (0, 128, 128)),
    "zarr, 100 x 100 pixels of 10 dates": ("zarr", (10, 100, 100)),
    "zarr, the whole scene of a date": ("zarr", (1, 0, 0)),
    "netcdf, 128 x 128 pixels of all dates": ("nc", (0, 128, 128)),
}
"""Kind of file, and its chunks in T, H, W; 0: all of it."""


def generate(path: Path, side: int, dates: int, form: str) -> None:
    """Write a cube of noise on a smooth ground."""
    kind, wanted = FORMS[form]
    chunk = tuple(size or whole for size, whole in zip(wanted, (dates, side, side), strict=True))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 400, (side, side)) + 1000 + np.arange(side) // 8
    image = np.stack([np.roll(noise, date, axis=1) for date in range(dates)]).astype(np.uint16)
    flags = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "meadow maize"}
    days = np.datetime64("2018-10-01", "ns") + np.arange(dates) * np.timedelta64(6, "D")
    cube = xr.Dataset(
        {
            **dict.fromkeys(BANDS, (("time", "y", "x"), image)),
            "SCL": (("time", "y", "x"), np.full(image.shape, 4, np.uint8)),
            "crop": (("y", "x"), rng.integers(0, 2, (side, side)).astype(np.uint8), flags),
        },
        {"time": days, "y": 5_600_000 - 10.0 * np.arange(side), "x": 500_000 + 10.0 * np.arange(side)},
        {"crs": "EPSG:32631", "season": 2019},
    )
    if kind == "nc":
        deflated = {"zlib": True, "complevel": 1, "chunksizes": chunk}
        cube.to_netcdf(path / "cube.nc", engine="netcdf4", encoding=dict.fromkeys(IMAGES, deflated))
    else:
        cube.to_zarr(path / "cube.zarr", encoding={name: {"chunks": chunk} for name in IMAGES})


def seconds(job: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    job()
    return time.process_time() - began


def decode_once(cube: Cube) -> None:
    """Decode every chunk of the images once, a row of chunks at a time."""
    for variable in cube.variables(range(len(cube.bands))):
        T, H = blocks.chunk_of(variable)["time"], blocks.chunk_of(variable)["y"]
        for date in range(0, variable.sizes["time"], T):
            for row in range(0, variable.sizes["y"], H):
                variable.isel(time=slice(date, date + T), y=slice(row, row + H)).load()


def read(reader: Cubes, names: Iterable[str]) -> None:
    """Read tiles and forget them."""
    for name in names:
        reader.read(name)


def measure(path: Path, answer: Any) -> None:
    """Read all tiles, and say what that took."""
    dataset = Dataset(source="generated", layout="cube", season_start="09-01", tile=TILE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = Cubes(path, dataset, "2019")
    whole = seconds(lambda: read(reader, chain(*reader.batches)))
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    least = seconds(lambda: decode_once(reader.cube))
    blocks.BUDGET = 1
    single = Cubes(path, dataset, "2019")
    part = single.ids[:: max(1, len(single.ids) // PART)]
    alone = seconds(lambda: read(single, part)) / len(part) * len(single.ids)
    answer.send({
        "tiles": len(reader.ids), "blocks": len(reader.batches), "seconds": round(whole, 2),
        "times as long as decoding once": round(whole / least, 2),
        "times as long tile by tile": round(alone / whole, 1),
        "MB before": before // 1024, "MB at most": highest // 1024,
    })  # fmt: skip


def main() -> None:
    """Measure every form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--dates", type=int, default=46)
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    stored = asked.dates * asked.side**2 * (2 * len(BANDS) + 1)
    for form in FORMS:
        with tempfile.TemporaryDirectory() as root:
            for job in (generate, measure):
                mine, theirs = spawn.Pipe()
                words = (Path(root), asked.side, asked.dates, form) if job is generate else (Path(root), theirs)
                process = spawn.Process(target=job, args=words)
                process.start()
                theirs.close()
                if job is measure:
                    print(json.dumps({"form": form, "MB stored": round(stored / 1e6), **mine.recv()}))
                process.join()


if __name__ == "__main__":
    main()
