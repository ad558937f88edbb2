"""Seeded damage to every kind of file: a reader ends in the tile, or in a sentence; never in anything else.

A gzipped TFRecord has checksums, so its damage is never read as data. GeoTIFF and .npy have none.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stcln.data.prepare.tiles import READERS
from stcln.data.simulate import archive
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.study import Dataset

ROUNDS = 80
HEAD = 400  # bytes in which half of the damage falls: that is where the structure is
MADE = {"mtlcc": "mtlcc", "mtlcc-geotiff": "mtlcc-geotiff", "pastis": "pastis-r"}
FILES = [
    ("mtlcc", "data18/1.tfrecord.gz"),
    ("mtlcc", "classes.txt"),
    ("mtlcc", "geotransforms.csv"),
    ("mtlcc", "tileids/train_fold0.tileids"),
    ("mtlcc-geotiff", "data18/1/y.tif"),
    ("mtlcc-geotiff", "data18/1/*_10m.tif"),
    ("mtlcc-geotiff", "data18/1/*_60m.tif"),
    ("pastis", "DATA_S2/S2_180001.npy"),
    ("pastis", "ANNOTATIONS/TARGET_180001.npy"),
    ("pastis", "DATA_S1A/S1A_180001.npy"),
    ("pastis", "metadata.geojson"),
]
STRANGE = (
    None, "", [], {}, -1, 1.5, 1e400, "x", True, [1], {"0": 20181001}, 20181301, '{"0": 20181001}', "[1]", "null",
    {"a": 20181001},
)  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A simulated archive of one tile by layout; whoever changes it mends it."""
    root = tmp_path_factory.mktemp("damage")
    for layout, made in MADE.items():
        archive(root / layout, made, ["2018"], 1, 12, 1, Silent())
    for path in sorted((root / "mtlcc-geotiff/data18/1").glob("2018*"))[9:]:
        path.unlink()  # three dates are read sooner than thirty
    return {layout: root / layout for layout in MADE}


def read(root: Path, layout: str) -> Tile | None:
    """The archive's tile, or None if it is refused or in no list."""
    start = "09-01" if layout == "pastis" else "01-01"
    try:
        reader = READERS[layout](root, Dataset(source="x", layout=layout, season_start=start), "2018")
        return reader.read(reader.ids[0]) if reader.ids else None
    except BadInput as error:
        sentence = str(error)
        assert sentence.endswith(".") and "; " in sentence and str(root) in sentence
        return None


def damage(whole: bytes, rng: np.random.Generator, turn: int) -> bytes:
    """Flipped bits, an end cut off, or a stretch replaced by noise of another length."""
    data = bytearray(whole)
    reach = len(data) if turn % 2 else min(len(data), HEAD)
    kind, at = rng.integers(3), int(rng.integers(reach))
    if kind == 0:
        for place in (at, *rng.integers(reach, size=2)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 1:
        del data[at:]
    else:
        data[at : at + int(rng.integers(1, 20))] = rng.bytes(int(rng.integers(0, 30)))
    return bytes(data)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("layout", "name"), FILES)
def test_a_damaged_file_ends_in_a_tile_or_a_sentence(roots: dict[str, Path], layout: str, name: str) -> None:
    root = roots[layout]
    path = min(root.glob(name))
    whole, good = path.read_bytes(), read(root, layout)
    rng = np.random.default_rng(len(name))
    try:
        for turn in range(ROUNDS):
            path.write_bytes(damage(whole, rng, turn))
            found = read(root, layout)
            if found and path.name.endswith(".gz"):
                assert good and np.array_equal(found.reflectance, good.reflectance)
                assert np.array_equal(found.labels, good.labels)
    finally:
        path.write_bytes(whole)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys down to every part of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from places(part, (*at, key))


def test_strange_metadata_of_patches_end_in_a_tile_or_a_sentence(roots: dict[str, Path]) -> None:
    path = roots["pastis"] / "metadata.geojson"
    whole, rng = path.read_text(), random.Random(0)
    every = list(places(json.loads(whole)))
    coarse = [at for at in every if len(at) <= 4]
    try:
        for turn in range(6 * ROUNDS):
            document = json.loads(whole)
            *way, last = rng.choice(coarse if turn % 2 else every)
            part = document
            for key in way:
                part = part[key]
            if rng.random() < 0.2:
                del part[last]
            else:
                part[last] = rng.choice(STRANGE)
            path.write_text(json.dumps(document))
            read(roots["pastis"], "pastis")
    finally:
        path.write_text(whole)
