"""PASTIS-R: radar of two orbits beside the optical images, each on dates of its own."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stcln.data.prepare import prepare
from stcln.data.readers.pastis import BANDS, Pastis
from stcln.data.store import SeasonStore
from stcln.data.tile import NODATA
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.study import Dataset
from stcln.workspace import Workspace

DATASET = Dataset(source="x", layout="pastis", season_start="09-01")
SIDE = 4
DATES: dict[str, list[int]] = {
    "S2": [20181005, 20190401, 20190720],
    "S1A": [20180910, 20181105, 20190301, 20190801],
    "S1D": [20190105, 20190606],
}
RADAR = ("S1A_VV", "S1A_VH", "S1A_VHVV", "S1D_VV", "S1D_VH", "S1D_VHVV")


def describe(root: Path, dates: Mapping[str, list[int]]) -> None:
    corners = [[700_000, 6_600_040], [700_040, 6_600_040], [700_040, 6_600_000], [700_000, 6_600_000]]
    properties: dict[str, Any] = {"ID_PATCH": 1, "Fold": 2}
    properties |= {f"dates-{name}": {str(i): day for i, day in enumerate(days)} for name, days in dates.items()}
    geometry = {"type": "MultiPolygon", "coordinates": [[[*corners, corners[0]]]]}
    feature = {"type": "Feature", "properties": properties, "geometry": geometry}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}
    document = {"type": "FeatureCollection", "crs": crs, "features": [feature]}
    (root / "metadata.geojson").write_text(json.dumps(document))


def scatter(orbit: str) -> np.ndarray:
    rng = np.random.default_rng(len(DATES[orbit]))
    return rng.normal(-14, 5, (len(DATES[orbit]), 3, SIDE, SIDE))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("DATA_S2", "ANNOTATIONS", "DATA_S1A", "DATA_S1D"):
        (tmp_path / name).mkdir()
    describe(tmp_path, DATES)
    np.save(tmp_path / "DATA_S2/S2_1.npy", np.full((3, 10, SIDE, SIDE), 500, np.int16))
    np.save(tmp_path / "ANNOTATIONS/TARGET_1.npy", np.zeros((3, SIDE, SIDE), np.uint8))
    for orbit in ("S1A", "S1D"):
        np.save(tmp_path / f"DATA_{orbit}/{orbit}_1.npy", scatter(orbit).astype(np.float32))
    return tmp_path


def reader(root: Path, *bands: str) -> Pastis:
    return Pastis(root, DATASET.model_copy(update={"bands": bands}), "2019")


def test_radar_bands_lie_behind_the_optical_ones_and_keep_their_own_dates(root: Path) -> None:
    pastis = reader(root)
    tile = pastis.read("1")
    assert pastis.bands == (*BANDS, *RADAR) and tile.reflectance.shape[1] == len(BANDS)
    for orbit, radar in tile.radar.items():
        assert [int(str(day).replace("-", "")) for day in radar.dates] == DATES[orbit]
        assert radar.values.dtype == np.int16 and np.abs(radar.values / 100 - scatter(orbit)).max() <= 0.0051
    assert list(tile.radar) == ["S1A", "S1D"] and not pastis.findings.counts


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int16])
def test_any_numbers_are_taken_as_decibel(root: Path, kind: type) -> None:
    np.save(root / "DATA_S1A/S1A_1.npy", np.full((4, 3, SIDE, SIDE), -14, kind))
    assert (reader(root).read("1").radar["S1A"].values == -1400).all()


def test_the_study_chooses_among_optical_and_radar_bands(root: Path) -> None:
    pastis = reader(root, "B04", "S1D_VHVV", "S1D_VV")
    tile = pastis.read("1")
    assert pastis.bands == ("B04", "S1D_VHVV", "S1D_VV") and list(tile.radar) == ["S1D"]
    assert np.array_equal(tile.radar["S1D"].values, np.rint(scatter("S1D").astype(np.float32)[:, [2, 0]] * 100))
    turned = reader(root, "B04", "S1A_VHVV", "S1A_VV", "S1A_VH").read("1").radar["S1A"].values
    assert np.array_equal(turned, reader(root).read("1").radar["S1A"].values[:, [2, 0, 1]])
    assert [path.name for path in pastis.sources] == ["metadata.geojson", "DATA_S2", "ANNOTATIONS", "DATA_S1D"]


@pytest.mark.parametrize("bands", [("S1A_VV", "B04"), ("B04", "S1D_VV", "S1A_VV"), ("B04", "S1A_VV", "B03"), RADAR])
def test_bands_whose_series_do_not_lie_one_behind_the_other_are_refused(root: Path, bands: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=r"dataset.bands: .* are not optical bands, then those of S1A.*; order them so"):
        reader(root, *bands)


def test_plain_pastis_offers_no_radar(root: Path) -> None:
    for orbit in ("S1A", "S1D"):
        (root / f"DATA_{orbit}/{orbit}_1.npy").unlink()
        (root / f"DATA_{orbit}").rmdir()
    assert reader(root).bands == BANDS and not reader(root).read("1").radar
    with pytest.raises(BadInput, match=r"no band S1A_VV; choose dataset.bands among B02"):
        reader(root, "B04", "S1A_VV")


def test_values_that_are_not_finite_are_nodata_and_counted(root: Path) -> None:
    values = scatter("S1A")
    values[0, 1, 0, :3] = (np.nan, np.inf, -np.inf)
    np.save(root / "DATA_S1A/S1A_1.npy", values)
    pastis = reader(root)
    found = pastis.read("1").radar["S1A"].values
    assert (found[0, 1, 0, :3] == NODATA).all() and (found == NODATA).sum() == 3
    assert pastis.findings.counts == {"S1A: values not finite, taken as nodata": {"1": 3}}


def test_values_that_two_bytes_cannot_hold_are_clipped_and_never_nodata(root: Path) -> None:
    values = scatter("S1A")
    values[0, 0, 0, :2] = (-1e9, 1e9)
    np.save(root / "DATA_S1A/S1A_1.npy", values)
    pastis = reader(root)
    assert pastis.read("1").radar["S1A"].values[0, 0, 0, :2].tolist() == [-32_767, 32_767]
    assert pastis.findings.counts == {"S1A: values beyond 327 dB, clipped": {"1": 2}}


def test_an_image_without_a_value_does_not_hide_the_one_before_it(root: Path) -> None:
    values = scatter("S1D")
    values[1] = np.nan
    np.save(root / "DATA_S1D/S1D_1.npy", values)
    pastis = reader(root)
    assert [str(day) for day in pastis.read("1").radar["S1D"].dates] == ["2019-01-05"]
    assert pastis.findings.counts["S1D: images without a value, left out"] == {"1": 1}


def test_unsorted_repeated_and_distant_dates_are_mended_by_the_rule_of_optical_ones(root: Path) -> None:
    describe(root, DATES | {"S1A": [20190301, 20181105, 20181105, 20150101]})
    values = scatter("S1A").astype(np.float32)
    values[1, :, 0] = np.nan  # the first of two images of a day lacks the north
    np.save(root / "DATA_S1A/S1A_1.npy", values)
    pastis = reader(root)
    radar = pastis.read("1").radar["S1A"]
    assert [str(day) for day in radar.dates] == ["2018-11-05", "2019-03-01"]
    assert np.array_equal(radar.values[0, :, 0], np.rint(values[2, :, 0] * 100))
    assert np.array_equal(radar.values[0, :, 1:], np.rint(values[1, :, 1:] * 100))
    counts = {what: found["1"] for what, found in pastis.findings.counts.items()}
    assert counts == {
        "S1A: values not finite, taken as nodata": 12, "S1A: dates outside the season's span, left out": 1,
        "S1A: dates unsorted, sorted": 1, "S1A: images of a day that has another, merged": 1,
    }  # fmt: skip


def test_a_patch_that_an_orbit_never_saw_has_a_series_without_images(root: Path) -> None:
    describe(root, {name: days for name, days in DATES.items() if name != "S1D"})
    (root / "DATA_S1D/S1D_1.npy").unlink()
    pastis = reader(root)
    radar = pastis.read("1").radar["S1D"]
    assert radar.values.shape == (0, 3, SIDE, SIDE) and radar.values.dtype == np.int16 and radar.dates.shape == (0,)
    assert pastis.findings.counts == {"S1D: no image of the season": {"1": 1}}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda r: (r / "DATA_S1A/S1A_1.npy").unlink(), "S1A_1.npy: the file is missing"),
        (
            lambda r: np.save(r / "DATA_S1A/S1A_1.npy", np.zeros((3, 3, SIDE, SIDE))),
            r"S1A_1.npy: the array has shape \(3, 3, 4, 4\), not \(4, 3, 4, 4\)",
        ),
        (lambda r: np.save(r / "DATA_S1A/S1A_1.npy", np.zeros((4, 3))), "2 dimensions, not T,C,H,W"),
        (
            lambda r: np.save(r / "DATA_S1A/S1A_1.npy", np.zeros((4, 3, SIDE, SIDE), complex)),
            "holds complex128, not numbers; store radar in dB",
        ),
        (
            lambda r: (r / "DATA_S1A/S1A_1.npy").write_bytes((r / "DATA_S1A/S1A_1.npy").read_bytes()[:200]),
            "S1A_1.npy: not a whole .npy file",
        ),
        (
            lambda r: describe(r, DATES | {"S1A": [20180910, 20181105, 20190301, 20190832]}),
            "dates-S1A of patch 1 are not dates",
        ),
    ],
)
def test_broken_radar_is_refused_with_file_fault_and_remedy(
    root: Path, fault: Callable[[Path], object], message: str
) -> None:
    fault(root)
    with pytest.raises(BadInput, match=message):
        reader(root).read("1")


@pytest.mark.parametrize("missing", ["", "S1D"])
def test_a_store_gives_at_every_date_the_latest_radar_image_that_is_not_after_it(
    root: Path, workspace: Callable[..., Workspace], missing: str
) -> None:
    """No date sees a later image; before an orbit's first one, or without any, its bands are their mean."""
    describe(root, {name: days for name, days in DATES.items() if name != missing})
    made = workspace(root, "own-pastis", root=".", bands=("B04", "S1A_VH", "S1D_VV"), max_rejected=0)
    prepare(made, "2019", Silent())
    store = SeasonStore.open(made.season("2019"))
    found, _, _ = store.read(0)
    hundredths = {orbit: np.rint(scatter(orbit).astype(np.float32) * 100) for orbit in ("S1A", "S1D")}
    assert store.bands == ("B04", "S1A_VH", "S1D_VV") and found.shape == (3, 3, SIDE, SIDE)
    assert np.array_equal(found[:, 1], hundredths["S1A"][[0, 2, 2], 1])
    if not missing:
        assert np.array_equal(found[1:, 2], hundredths["S1D"][[0, 1], 0])
    assert len(np.unique(found[:1, 2])) == 1  # the descending orbit comes after the first optical date
    assert np.array_equal(store.read(0, np.array([0]))[0], found[:1])
