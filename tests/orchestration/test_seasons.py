"""A new season is seen where the reader will look for it, and enters the study that params.yaml names."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from orchestration import seasons
from stcln.data.readers.cubes import Cubes
from stcln.new import studies
from stcln.study import Dataset, load_study

pytestmark = pytest.mark.orchestration


def cube(path: Path, season: str | None) -> None:
    """A cube of one date, band and tile; its attribute `season` if given."""
    data = xr.Dataset(
        {
            "B04": (("time", "y", "x"), np.full((1, 4, 4), 500, np.uint16)),
            "crop": (("y", "x"), np.zeros((4, 4), np.uint8), {"flag_values": [0], "flag_meanings": "maize"}),
        },
        {"time": np.array(["2019-05-01"], "M8[ns]"), "y": 95.0 - 10 * np.arange(4), "x": 5.0 + 10 * np.arange(4)},
        {"crs": "EPSG:32631"} | ({"season": season} if season else {}),
    )
    data.to_zarr(path) if path.suffix == ".zarr" else data.to_netcdf(path, engine="netcdf4")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_sensor_and_the_reader_agree_on_a_cubes_season(tmp_path: Path) -> None:
    cube(tmp_path / "flanders_2017_v2.nc4", None)
    cube(tmp_path / "made_in_2024.nc", "2018")
    cube(tmp_path / "2019.zarr", None)
    cube(tmp_path / "spring.nc", None)
    dataset = Dataset(source=str(tmp_path), layout="cube", tile=4)
    found = seasons.in_source(dataset, tmp_path)
    assert found == ["2017", "2018", "2019"]
    assert all(Cubes(tmp_path, dataset, season).ids for season in found)


def test_a_cube_that_is_still_being_copied_is_passed_over(tmp_path: Path) -> None:
    cube(tmp_path / "2018.nc", None)
    (tmp_path / "2019.nc").write_bytes((tmp_path / "2018.nc").read_bytes()[:2000])
    assert seasons.in_source(Dataset(source=str(tmp_path), layout="cube"), tmp_path) == ["2018"]


def test_a_season_enters_the_study_that_params_links_to_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    study, params = tmp_path / "studies/demo.yaml", tmp_path / "params.yaml"
    study.write_text(studies()["demo"].read_text())
    params.symlink_to("studies/demo.yaml")
    seasons.register(params, ["2020"])
    assert params.is_symlink() and load_study(study).cells.season == ("2018", "2019", "2020")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo.yaml", "params.yaml", "studies"]
