"""The PASTIS reader on small trees with one fault each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stcln.data.readers.pastis import CLASSES, Pastis
from stcln.errors import BadInput
from stcln.study import Dataset

DATASET = Dataset(source="x", layout="pastis", season_start="09-01")
GENUINE = "real/pastis_genuine/metadata.geojson"
T, SIDE = 3, 4


def feature(tile: int, dates: object, fold: int = 2) -> dict[str, Any]:
    corners = [[700_000, 6_600_040], [700_040, 6_600_040], [700_040, 6_600_000], [700_000, 6_600_000]]
    properties = {"ID_PATCH": tile, "Fold": fold, "TILE": "t31", "id": str(tile), "dates-S2": dates}
    geometry = {"type": "MultiPolygon", "coordinates": [[[*corners, corners[0]]]]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


DATES = {"0": 20181005, "1": 20190401, "2": 20190720}


def document(*features: dict[str, Any]) -> dict[str, Any]:
    name = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}
    return {"type": "FeatureCollection", "crs": name, "features": list(features)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "DATA_S2").mkdir()
    (tmp_path / "ANNOTATIONS").mkdir()
    (tmp_path / "metadata.geojson").write_text(json.dumps(document(feature(1, DATES))))
    images = np.random.default_rng(0).integers(1, 9000, (T, 10, SIDE, SIDE)).astype(np.int16)
    images[1, :, 0, 0] = -10000
    images[2, 3, 1, 1] = -10000
    np.save(tmp_path / "DATA_S2/S2_1.npy", images)
    np.save(tmp_path / "ANNOTATIONS/TARGET_1.npy", np.full((3, SIDE, SIDE), 19, np.uint8))
    return tmp_path


def test_only_pixels_without_any_band_are_not_valid(root: Path) -> None:
    valid = Pastis(root, DATASET, "2019").read("1").valid
    assert not valid[1, 0, 0] and valid.sum() == valid.size - 1


@pytest.mark.parametrize("dates", [DATES, json.dumps(DATES)])
def test_dates_are_read_from_an_object_and_from_its_text(root: Path, dates: object) -> None:
    (root / "metadata.geojson").write_text(json.dumps(document(feature(1, dates))))
    tile = Pastis(root, DATASET, "2019").read("1")
    assert [str(day) for day in tile.dates] == ["2018-10-05", "2019-04-01", "2019-07-20"]
    assert (tile.split, tile.crs) == ("fold_2", "EPSG:2154")


def test_dates_are_ordered_by_number_and_not_by_text(root: Path) -> None:
    many = {str(i): int(str(np.datetime64("2018-10-01") + 20 * i).replace("-", "")) for i in range(12)}
    (root / "metadata.geojson").write_text(json.dumps(document(feature(1, dict(sorted(many.items()))))))
    np.save(
        root / "DATA_S2/S2_1.npy", np.arange(12, dtype=np.int16)[:, None, None, None] + np.ones((1, 10, 4, 4), np.int16)
    )
    reader = Pastis(root, DATASET, "2019")
    assert np.array_equal(reader.read("1").reflectance[:, 0, 0, 0], np.arange(1, 13)) and not reader.findings.counts


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16])
def test_targets_of_one_and_two_bytes_give_the_same_labels(root: Path, kind: type) -> None:
    target = np.zeros((3, SIDE, SIDE), kind)
    target[0, 0] = 19
    target[1:] = 200  # other planes are no classes
    np.save(root / "ANNOTATIONS/TARGET_1.npy", target)
    labels = Pastis(root, DATASET, "2019").read("1").labels
    assert labels.dtype == np.uint8 and np.array_equal(labels, target[0])


def test_metadata_and_disk_are_compared_both_ways(root: Path) -> None:
    (root / "metadata.geojson").write_text(json.dumps(document(feature(1, DATES), feature(2, DATES))))
    np.save(root / "DATA_S2/S2_3.npy", np.zeros(1, np.int16))
    reader = Pastis(root, DATASET, "2019")
    assert reader.ids == ["1"], "what is absent is not rejected too"
    assert (list(reader.absent.values()), list(reader.unlisted.values())) == ([["2"]], [["3"], []])
    with pytest.raises(BadInput, match=r"S2_2.npy: the file is missing"):
        reader.read("2")


def test_genuine_patches_are_turned_against_the_projection(shared: Path, root: Path) -> None:
    """Their polygons lean by 4 degrees: a bounding box would overlap the neighbours."""
    (root / "metadata.geojson").write_text((shared / GENUINE).read_text())
    rng = np.random.default_rng(0)
    np.save(root / "DATA_S2/S2_10000.npy", rng.integers(1, 9000, (43, 10, 128, 128)).astype(np.int16))
    np.save(root / "ANNOTATIONS/TARGET_10000.npy", np.zeros((3, 128, 128), np.uint8))
    for number in range(10001, 10010):
        (root / f"DATA_S2/S2_{number}.npy").touch()
    reader = Pastis(root, DATASET, "2019")
    assert reader.ids == ["10000", "10001", "10002", "10003", "10004", "10005", "10006", "10007", "10009"]
    tile = reader.read("10000")
    a, b, c, d, e, f = tile.transform
    assert (tile.crs, reader.classes) == ("EPSG:2154", CLASSES)
    assert np.hypot(a, d) == pytest.approx(10, rel=2e-3) and np.hypot(b, e) == pytest.approx(10, rel=2e-3)
    assert (c + 128 * a + 128 * b, f + 128 * d + 128 * e) == pytest.approx((392683.25, 6955430.1), abs=0.5)


def broken(root: Path, path: str, array: object) -> None:
    np.save(root / path, array)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda r: broken(r, "DATA_S2/S2_1.npy", np.zeros((2, 10, 4, 4), np.int16)),
            r"shape \(2, 10, 4, 4\), not \(3, 10",
        ),
        (lambda r: broken(r, "DATA_S2/S2_1.npy", np.zeros((3, 10), np.int16)), "2 dimensions, not T,C,H,W"),
        (lambda r: broken(r, "DATA_S2/S2_1.npy", np.full((3, 10, 4, 4), np.nan)), "float64, not integers and NaN"),
        (
            lambda r: broken(r, "ANNOTATIONS/TARGET_1.npy", np.full((3, 4, 4), 20, np.uint8)),
            "TARGET_1.npy: unknown class 20",
        ),
        (
            lambda r: broken(r, "ANNOTATIONS/TARGET_1.npy", np.zeros((4, 4), np.uint8)),
            r"shape \(4, 4\), not \(3, 4, 4\)",
        ),
        (lambda r: (r / "ANNOTATIONS/TARGET_1.npy").unlink(), "TARGET_1.npy: the file is missing"),
        (lambda r: (r / "DATA_S2/S2_1.npy").write_bytes(b"\x93NUMPY\x01"), "not a whole .npy file"),
    ],
)
def test_a_broken_patch_is_refused_with_file_fault_and_remedy(
    root: Path, fault: Callable[[Path], object], message: str
) -> None:
    fault(root)
    with pytest.raises(BadInput, match=message):
        Pastis(root, DATASET, "2019").read("1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "metadata.geojson: not JSON"),
        (json.dumps({"features": []}), "field crs: '' names no EPSG code"),
        (json.dumps(document(feature(1, {"0": 20181399}))), "dates-S2 of patch 1 are not dates"),
    ],
)
def test_broken_metadata_are_refused(root: Path, text: str, message: str) -> None:
    (root / "metadata.geojson").write_text(text)
    with pytest.raises(BadInput, match=message):
        Pastis(root, DATASET, "2019")


def test_a_patch_without_dates_belongs_to_no_season(root: Path) -> None:
    (root / "metadata.geojson").write_text(json.dumps(document(feature(1, {}))))
    reader = Pastis(root, DATASET, "2019")
    assert reader.ids == [] and reader.unlisted["in metadata.geojson, without dates"] == ["1"]
