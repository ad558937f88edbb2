"""The cube reader on small cubes with one fault each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stcln.data.readers.cube import Cube
from stcln.data.readers.cubes import Cubes
from stcln.data.readers.reading import Findings
from stcln.errors import BadInput
from stcln.study import Dataset

DATASET = Dataset(source="x", layout="cube", season_start="09-01", tile=4)
FLAGS = {"flag_values": np.array([0, 7, 255], np.uint8), "flag_meanings": "background maize void"}


def cube(season: int = 2019, left: float = 500_000, top: float = 5_600_000, H: int = 8, W: int = 9) -> xr.Dataset:
    """Three dates, two bands, all pixels vegetation."""
    rng, T = np.random.default_rng(season), 3
    bands = {name: (("time", "y", "x"), rng.integers(1, 9000, (T, H, W)).astype(np.uint16)) for name in ("B04", "B08")}
    labels = rng.choice(np.array([0, 7, 255], np.uint8), (H, W))
    time = np.array([f"{season - 1}-10-01T10:00", f"{season}-04-01T11:00", f"{season}-07-01T10:30"], "M8[ns]")
    return xr.Dataset(
        {**bands, "SCL": (("time", "y", "x"), np.full((T, H, W), 4, np.uint8)), "crop": (("y", "x"), labels, FLAGS)},
        {"time": time, "y": top - 5 - 10 * np.arange(H), "x": left + 5 + 10 * np.arange(W)},
        {"crs": "EPSG:32631", "season": season},
    )


def save(data: xr.Dataset, path: Path) -> None:
    data.to_netcdf(path, engine="netcdf4")


def tiles(root: Path, dataset: Dataset = DATASET, season: str = "2019") -> Cubes:
    return Cubes(root, dataset, season)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_netcdf_and_zarr_give_the_same_tiles(tmp_path: Path) -> None:
    for name in ("nc", "zarr"):
        (tmp_path / name).mkdir()
    save(cube(), tmp_path / "nc/a.nc")
    cube().to_zarr(tmp_path / "zarr/a.zarr")
    a, b = tiles(tmp_path / "nc"), tiles(tmp_path / "zarr")
    assert a.ids == b.ids and len(a.ids) == 4
    for name in a.ids:
        one, other = a.read(name), b.read(name)
        assert np.array_equal(one.reflectance, other.reflectance) and np.array_equal(one.labels, other.labels)
        assert (one.transform, one.split) == (other.transform, other.split)


def test_tiles_hold_the_pixels_of_their_place_and_the_rest_is_counted(tmp_path: Path) -> None:
    save(cube(), tmp_path / "region_2019.nc")
    reader = tiles(tmp_path)
    one = reader.read(reader.ids[3])
    assert np.array_equal(one.reflectance[:, 1], cube().B08.values[:, 4:, 4:8])
    assert one.transform == (10.0, 0.0, 500_040.0, 0.0, -10.0, 5_599_960.0)
    assert [str(day) for day in one.dates] == ["2018-10-01", "2019-04-01", "2019-07-01"]
    (what,) = reader.findings.counts
    assert "fill no tile" in what and reader.findings.counts[what] == {"region_2019.nc": 8}


def test_a_cube_that_is_stored_south_up_gives_the_same_tiles(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    save(cube(), tmp_path / "a/2019.nc")
    save(cube().isel(y=slice(None, None, -1)).transpose("x", "y", "time"), tmp_path / "b/2019.nc")
    a, b = tiles(tmp_path / "a"), tiles(tmp_path / "b")
    assert a.ids == b.ids
    assert all(np.array_equal(a.read(name).reflectance, b.read(name).reflectance) for name in a.ids)
    assert all(np.array_equal(a.read(name).labels, b.read(name).labels) for name in a.ids)


def test_classes_are_found_by_name_and_void_is_outside(tmp_path: Path) -> None:
    save(cube(), tmp_path / "2019.nc")
    raw = cube().crop.values[:4, :4]
    plain = tiles(tmp_path)
    assert plain.classes == ("background", "maize")
    assert np.array_equal(plain.read(plain.ids[0]).labels, np.select([raw == 0, raw == 7], [0, 1], 255))
    listed = tiles(tmp_path, DATASET.model_copy(update={"classes": ("void", "wheat", "maize")}))
    assert np.array_equal(listed.read(listed.ids[0]).labels, np.select([raw == 255, raw == 7], [0, 2], 255))


def test_the_same_ground_has_the_same_name_and_split_in_every_season(tmp_path: Path) -> None:
    save(cube(2018), tmp_path / "2018.nc")
    save(cube(2019, left=500_040, top=5_600_080, H=16, W=12), tmp_path / "2019.nc")
    a, b = tiles(tmp_path, season="2018"), tiles(tmp_path)
    shared = set(a.ids) & set(b.ids)
    assert len(shared) == 2
    for name in shared:
        assert a.read(name).transform == b.read(name).transform and a.read(name).split == b.read(name).split


def test_every_square_of_four_tiles_has_every_split(tmp_path: Path) -> None:
    save(cube(H=32, W=32), tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    splits = np.array([reader.read(name).split for name in reader.ids]).reshape(8, 8)
    for row in range(7):
        for column in range(7):
            assert sorted(splits[row : row + 2, column : column + 2].ravel()) == [
                "test",
                "train",
                "train",
                "validation",
            ]


def test_cubes_that_overlap_on_shifted_grids_are_refused(tmp_path: Path) -> None:
    save(cube(2018), tmp_path / "2018.nc")
    save(cube(2019, left=500_010), tmp_path / "2019.nc")
    with pytest.raises(BadInput, match=r"2019.nc: overlaps 2018.nc, .* shifted by .*; crop both to the same corner"):
        tiles(tmp_path)


def test_pixels_with_nan_are_not_valid_and_counted(tmp_path: Path) -> None:
    data = cube()
    data["B04"] = data.B04.astype(np.float32)
    data.B04.values[1, 0, 0] = np.nan
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    tile = reader.read(reader.ids[0])
    assert not tile.valid[1, 0, 0] and tile.valid.sum() == tile.valid.size - 1 and tile.reflectance[1, 0, 0, 0] == 0
    assert reader.findings.counts["pixels with NaN, invalid"] == {reader.ids[0]: 1}


def test_a_declared_fill_value_in_any_band_makes_the_pixel_invalid(tmp_path: Path) -> None:
    data = cube()
    data.B04.values[1, 0, 0] = 65_535
    data.B08.values[1, 0, 1] = 0
    data.B04.attrs.update({"_FillValue": np.uint16(65_535), "scale_factor": 5e-5})
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    tile = reader.read(reader.ids[0])
    assert not tile.valid[1, 0, 0] and tile.reflectance[1, 0, 0, 0] == 0
    assert tile.valid.sum() == tile.valid.size - 1, "0 in one band that declares no fill value is a value"
    assert set(reader.findings.counts) == {next(what for what in reader.findings.counts if "fill no tile" in what)}


def test_clouds_and_nodata_are_not_valid(tmp_path: Path) -> None:
    data = cube()
    data.SCL.values[0, 0, :4] = (8, 9, 3, 11)
    data.B04.values[1, 1, 1] = data.B08.values[1, 1, 1] = 0
    data.B04.values[2, 2, 2] = 0
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    valid = reader.read(reader.ids[0]).valid
    assert not valid[0, 0].any() and not valid[1, 1, 1] and valid.sum() == valid.size - 5
    (tmp_path / "plain").mkdir()
    save(data.drop_vars("SCL"), tmp_path / "plain/2019.nc")
    reader = tiles(tmp_path / "plain")
    assert reader.read(reader.ids[0]).valid.sum() == valid.size - 1


def test_scaled_reflectance_comes_back_times_ten_thousand(tmp_path: Path) -> None:
    data = cube()
    data["B04"] = (data.B04 + 1000).astype(np.uint16)
    data.B04.attrs.update({"scale_factor": 1e-4, "add_offset": -0.1})
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    assert np.array_equal(reader.read(reader.ids[0]).reflectance[:, 0], cube().B04.values[:, :4, :4])


def test_unsigned_values_beyond_int16_are_clipped_and_counted(tmp_path: Path) -> None:
    data = cube()
    data.B08.values[0, 0, 0] = 65_535
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    assert reader.read(reader.ids[0]).reflectance[0, 1, 0, 0] == 32_767
    assert reader.findings.counts["values above 32,767, clipped"] == {reader.ids[0]: 1}


def test_two_images_of_a_day_become_one(tmp_path: Path) -> None:
    data = cube().assign_coords(time=np.array(["2019-04-01T10", "2018-10-01", "2019-04-01T09"], "M8[ns]"))
    data.SCL.values[0, 0, 0] = 9
    save(data, tmp_path / "2019.nc")
    reader = tiles(tmp_path)
    tile = reader.read(reader.ids[0])
    assert len(tile.dates) == 2 and tile.valid.all()
    assert np.array_equal(tile.reflectance[1, :, 0, 0], data.isel(time=2, y=0, x=0)[["B04", "B08"]].to_array())
    assert np.array_equal(tile.reflectance[1, 0, 1:], data.B04.values[0, 1:4, :4])


def test_a_window_is_read_without_labels_or_season(tmp_path: Path) -> None:
    save(cube().drop_vars("crop"), tmp_path / "scene.nc")
    scene = Cube(tmp_path / "scene.nc")
    reflectance, valid = scene.read(slice(1, 3), slice(2, 7), [1], "scene", Findings())
    assert reflectance.shape == (3, 1, 2, 5) and valid.shape == (3, 2, 5) and scene.shape == (8, 9)
    assert np.array_equal(reflectance[:, 0], cube().B08.values[:, 1:3, 2:7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("x"), "no coordinate x; name the dimensions"),
        (lambda d: d.drop_vars(["B04", "B08"]), "no band variable"),
        (lambda d: d.assign_attrs(crs="somewhere"), "'somewhere' has no EPSG code"),
        (lambda d: d.assign_coords(x=np.arange(9.0) ** 2), "no even grid of square pixels"),
        (lambda d: d.drop_vars("crop"), "0 variables .y, x. with flag_values"),
        (lambda d: d.assign(crop=d.crop.assign_attrs(flag_meanings="one")), "3 flag_values and 1 flag_meanings"),
        (lambda d: d.assign(crop=d.crop + 1).assign(crop=lambda e: e.crop.assign_attrs(FLAGS)), "unknown class 1, 8"),
        (lambda d: d.assign_coords(time=d.time - np.timedelta64(900, "D")), "no date between 2018-09-01"),
        (lambda d: d.assign_attrs(season=2017), "0 cubes of season 2019"),
    ],
)
def test_a_broken_cube_is_refused_with_file_fault_and_remedy(
    tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset], message: str
) -> None:
    save(change(cube()), tmp_path / "2019.nc")
    with pytest.raises(BadInput, match=message):
        reader = tiles(tmp_path)
        for name in reader.ids:
            reader.read(name)


def test_a_file_that_is_no_cube_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2019.nc").write_text("not a cube")
    with pytest.raises(BadInput, match=r"2019.nc: not a NetCDF file or Zarr store"):
        tiles(tmp_path)
    with pytest.raises(BadInput, match="0 cubes of season 2019"):
        tiles(tmp_path / "absent")
