"""What `drift` says of simulated seasons that are like those trained on, and of some that are not: a JSON line each.

    python benchmarks/drift.py DIRECTORY [--tiles 16] [--epochs 1] [--seed 3407]

DIRECTORY must not exist; a workspace is made in it: one simulated region, an encoder pre-trained on 2016 and 2017. The
thresholds in docs/seasons.md are chosen by what this prints.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from stcln.cli import run_verb
from stcln.data.simulate import archive
from stcln.events import Silent
from stcln.new import studies
from stcln.storage import read_json

TRAINED = ("2016", "2017")
BASE = "2019"
LIKE = {"2018": "a year of drought", BASE: "an ordinary year", "2020": "a year", "2021": "a year", "2022": "a year"}
"""Other years of the same region; the weather of 2016 to 2019 is as it was, the others' is drawn."""
SIDE = 24


def bands(data: xr.Dataset) -> list[str]:
    """The variables of a cube that are bands."""
    return [str(name) for name in data if str(name).startswith("B")]


def each(change: Callable[[xr.DataArray], xr.DataArray]) -> Callable[[xr.Dataset], xr.Dataset]:
    """A change of every band where it was seen; 0 is nodata."""
    return lambda data: data.assign(
        {name: data[name].where(data[name] == 0, change(data[name])) for name in bands(data)}
    )


def swapped(data: xr.Dataset) -> xr.Dataset:
    """Red and near infrared in each other's place."""
    return data.assign(B04=data.B08, B08=data.B04)


def shifted(days: int) -> Callable[[xr.Dataset], xr.Dataset]:
    """All images so many days later."""
    return lambda data: data.assign_coords(time=data.time + np.timedelta64(days, "D"))


def unregistered(data: xr.Dataset) -> xr.Dataset:
    """The labels of three quarters of the meadows gone: every pixel but those of each fourth column."""
    meadow = data.crop_type.attrs["flag_meanings"].split().index("meadow")
    gone = (data.crop_type == meadow) & (np.arange(data.sizes["x"]) % 4 > 0)
    return data.assign(crop_type=data.crop_type.where(~gone, 255).assign_attrs(data.crop_type.attrs))


UNLIKE: dict[str, tuple[str, Callable[[xr.Dataset], xr.Dataset]]] = {
    "2031": ("the offset of 1,000 left in", each(lambda band: band + 1000)),
    "2032": ("red and near infrared swapped", swapped),
    "2033": ("everything six weeks earlier", shifted(-42)),
    "2034": ("every third image", lambda data: data.isel(time=slice(None, None, 3))),
    "2035": ("all bands a fifth brighter", each(lambda band: band * 6 // 5)),
    "2036": ("three quarters of the meadows not in the register", unregistered),
}
"""Copies of the base season under other years, each with one change."""


def changed(source: Path, year: str, change: Callable[[xr.Dataset], xr.Dataset]) -> None:
    """Write the copy of a season's cube under another year."""
    before = xr.open_dataset(source / f"simulated_{BASE}.nc", mask_and_scale=False).load()
    data = change(before)
    data = data.assign({name: data[name].astype(before[name].dtype).assign_attrs(before[name].attrs) for name in data})
    for variable in data.variables.values():
        variable.encoding.clear()
    data = data.assign_coords(time=data.time + np.timedelta64(round(365.25 * (int(year) - int(BASE))), "D"))
    data.attrs["season"] = int(year)
    data.to_netcdf(source / f"simulated_{year}.nc", engine="netcdf4")


def make(root: Path, tiles: int, epochs: int, seed: int) -> None:
    """The workspace, its source, and the study of all seasons."""
    root.mkdir(parents=True)
    source, years = root / "source", (*TRAINED, *LIKE)
    archive(source, "cube", years, tiles, SIDE, seed, Silent())
    for year, (_, change) in UNLIKE.items():
        changed(source, year, change)
    study = yaml.safe_load(studies()["flanders"].read_text())
    study["seed"] = seed
    study["dataset"] |= {"source": "source", "tile": SIDE, "classes": [], "ignore": ["unknown"]}
    study["cells"]["season"] = [*years, *UNLIKE]
    study["pretrain"] |= {"seasons": list(TRAINED), "epochs": epochs, "batch": 8, "window": 12}
    study["finetune"]["window"] = 12
    study["lengths"]["d30"] = {"dates": 16}
    (root / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def main(root: Path, tiles: int, epochs: int, seed: int) -> Iterator[dict[str, object]]:
    """A record a season."""
    make(root, tiles, epochs, seed)

    def verb(*words: str) -> None:
        run_verb([*words, "--workspace", str(root)], Silent())

    verb("fetch")
    for year in (*TRAINED, *LIKE, *UNLIKE):
        verb("prepare", "--season", year)
    verb("pretrain")
    what = LIKE | {year: what for year, (what, _) in UNLIKE.items()}
    for year in what:
        verb("drift", "--season", year)
        found = read_json(root / "reports/drift" / year / "drift.json")
        yield {"season": year, "what": what[year], **found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=3407)
    asked = parser.parse_args()
    for record in main(asked.directory.resolve(), asked.tiles, asked.epochs, asked.seed):
        print(json.dumps(record), flush=True)
