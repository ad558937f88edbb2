"""A generated archive in PASTIS' layout, and trials on it."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from stcln.study import Study

STUDIES = Path(__file__).parents[2] / "studies"
PARTS = ("DATA_S2/S2", "ANNOTATIONS/TARGET")


def study(name: str, only: dict[str, object], **dataset: object) -> Study:
    params = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    params["dataset"] |= {"only": only, **dataset}
    return Study.model_validate(params)


def pastis(path: Path, patches: int, start: int = 0, seed: int = 7) -> dict[str, bytes]:
    """Write a generated archive in PASTIS' layout, a zip64 whose first member begins at byte `start`; its files."""
    rng = np.random.default_rng(seed)
    dates = {str(i): 20180924 + i for i in range(5)}
    features = [{"properties": {"ID_PATCH": 10000 + n, "Fold": n % 5 + 1, "dates-S2": dates}} for n in range(patches)]
    files = {"PASTIS/metadata.geojson": json.dumps({"features": features}).encode(), "PASTIS/NORM.json": b"{}"}
    noise = rng.bytes(1 << 16)
    for n in range(patches):
        cut = n * 7 % 5000
        files[f"PASTIS/DATA_S2/S2_{10000 + n}.npy"] = noise[cut : cut + 20_000]
        files[f"PASTIS/ANNOTATIONS/TARGET_{10000 + n}.npy"] = noise[cut : cut + 300]
        files[f"PASTIS/ANNOTATIONS/ParcelIDs_{10000 + n}.npy"] = noise[:300]
    with path.open("wb") as stream:
        stream.seek(start)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for name, body in files.items():
                with archive.open(name, "w", force_zip64=True) as member:
                    member.write(body)
    return files


def held(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def trial_of(files: dict[str, bytes], ids: Iterable[int]) -> dict[str, bytes]:
    """Of a generated archive what a trial on some patches holds."""
    wanted = {f"PASTIS/{part}_{n}.npy" for n in ids for part in PARTS} | {"PASTIS/metadata.geojson", "PASTIS/NORM.json"}
    return {name: body for name, body in files.items() if name in wanted}
