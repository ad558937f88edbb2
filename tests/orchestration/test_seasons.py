"""A new season is seen where the reader will look for it, and enters the study that params.yaml names."""

import json
from pathlib import Path

import pytest
from watched import cube

from orchestration.seasons import source
from stcln.data.only import listed_patches
from stcln.data.readers.cubes import Cubes
from stcln.data.readers.pastis import Pastis
from stcln.errors import BadInput
from stcln.new import studies
from stcln.study import Dataset, load_study

pytestmark = pytest.mark.orchestration


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_sensor_and_the_reader_agree_on_a_cubes_season(tmp_path: Path) -> None:
    cube(tmp_path / "flanders_2017_v2.nc4", None)
    cube(tmp_path / "made_in_2024.nc", "2018")
    cube(tmp_path / "2019.zarr", None)
    cube(tmp_path / "spring.nc", None)
    dataset = Dataset(source=str(tmp_path), layout="cube", tile=4)
    found = list(source.held(tmp_path, dataset).seasons)
    assert found == ["2017", "2018", "2019"]
    assert all(Cubes(tmp_path, dataset, season).ids for season in found)


def test_the_sensor_the_trial_and_the_reader_agree_on_a_patchs_season(tmp_path: Path) -> None:
    dates: list[object] = [
        {"0": 20181005, "1": 20190401, "2": 20190720}, '{"0": 20180831, "1": 20180901}', {"0": 20200831}, {}, None,
        {"12345678": 20190601, "23456789": 20190602}, {"0": 19990501},
    ]  # fmt: skip
    features = [{"properties": {"ID_PATCH": n, "Fold": 1, "dates-S2": days}} for n, days in enumerate(dates)]
    del features[4]["properties"]["dates-S2"]
    crs = {"properties": {"name": "EPSG:2154"}}
    (tmp_path / "metadata.geojson").write_text(json.dumps({"crs": crs, "features": features}))
    (tmp_path / "DATA_S2").mkdir()
    for n in range(len(dates)):
        (tmp_path / f"DATA_S2/S2_{n}.npy").touch()
    dataset = Dataset(source=str(tmp_path), layout="pastis", season_start="09-01")
    read = {year: Pastis(tmp_path, dataset, year).ids for year in ("1999", "2019", "2020")}
    assert read == {"1999": ["6"], "2019": ["0", "1", "5"], "2020": ["2"]}
    assert list(source.held(tmp_path, dataset).seasons) == sorted(read)
    document = json.loads((tmp_path / "metadata.geojson").read_text())
    assert {year: list(listed_patches(document, dataset.start(year))) for year in read} == read


def test_a_patch_whose_dates_are_none_is_named_by_whoever_asks_for_its_season(tmp_path: Path) -> None:
    document = {"features": [{"properties": {"ID_PATCH": 7, "Fold": 1, "dates-S2": {"0": 20181399}}}]}
    (tmp_path / "metadata.geojson").write_text(json.dumps(document))
    dataset = Dataset(source=str(tmp_path), layout="pastis")
    with pytest.raises(BadInput, match=r"metadata.geojson: dates-S2 of patch 7 are not dates: 20181399"):
        listed_patches(document, dataset.start("2019"))
    (problem,) = source.held(tmp_path, dataset).unreadable.values()
    assert "dates-S2 of patch 7 are not dates: 20181399" in problem


def test_a_cube_that_is_still_being_copied_is_in_no_others_way(tmp_path: Path) -> None:
    cube(tmp_path / "2018.nc", None)
    (tmp_path / "2019.nc").write_bytes((tmp_path / "2018.nc").read_bytes()[:2000])
    dataset = Dataset(source=str(tmp_path), layout="cube", tile=4)
    assert source.held(tmp_path, dataset).seasons == ("2018",)
    assert Cubes(tmp_path, dataset, "2018").ids
    with pytest.raises(BadInput, match=r"2019.nc: not a NetCDF file"):
        Cubes(tmp_path, dataset, "2019")


def test_seasons_are_read_from_each_layout(shared: Path) -> None:
    for name, at in (("flanders", "cubes"), ("mtlcc", "mtlcc"), ("pastis", "pastis/PASTIS")):
        dataset = load_study(studies()[name]).dataset
        root = "data_IJGI18/datasets/full/240" if name == "mtlcc" else "."
        assert source.held(shared / "real" / at / root, dataset).seasons == ("2018", "2019")
