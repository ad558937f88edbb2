"""Cubes larger than memory: blocks of whole chunks, whatever the file's format, and the buffer between splits."""

import itertools
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cube import cube, save
from zarr.storage import LocalStore

from stcln.data.readers import blocks
from stcln.data.readers.cube import Cube
from stcln.data.readers.cubes import Cubes
from stcln.data.readers.reading import batches
from stcln.data.tile import VOID
from stcln.errors import BadInput
from stcln.study import Dataset

BANDS = ("B04", "B08")
IMAGES = (*BANDS, "SCL")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def dataset(tile: int = 4, buffer: int = 0) -> Dataset:
    return Dataset(source="x", layout="cube", season_start="09-01", tile=tile, buffer=buffer)


def put(data: xr.Dataset, path: Path, chunk: tuple[int, int, int], **options: int) -> None:
    data.to_zarr(path, encoding={name: {"chunks": chunk} for name in IMAGES}, **options)


def read(root: Path, of: Dataset) -> dict[str, bytes]:
    """Every tile's pixels and labels, read in the reader's batches."""
    reader = Cubes(root, of, "2019")
    found = {}
    for name in itertools.chain(*batches(reader)):
        tile = reader.read(name)
        found[name] = tile.reflectance.tobytes() + tile.valid.tobytes() + tile.labels.tobytes()
    assert sorted(found) == sorted(reader.ids)
    return found


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each key of a Zarr store was read."""
    counted: Counter[str] = Counter()
    get = LocalStore.get

    async def counting(self: LocalStore, key: str, *args: object, **named: object) -> object:
        counted[key] += 1
        return await get(self, key, *args, **named)

    monkeypatch.setattr(LocalStore, "get", counting)
    yield counted


def of_images(gets: Counter[str]) -> dict[str, int]:
    return {key: times for key, times in gets.items() if key.startswith(IMAGES) and "/c/" in key}


def test_a_chunk_of_whole_tiles_is_read_once(
    tmp_path: Path, gets: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cube(H=64, W=64), tmp_path / "2019.zarr", (1, 16, 16))
    monkeypatch.setattr(blocks, "BUDGET", 16 * 16 * 3 * 5)
    read(tmp_path, dataset())
    found = of_images(gets)
    assert len(found) == 3 * 3 * 16 and set(found.values()) == {1}


def test_a_chunk_that_tiles_straddle_is_read_by_its_neighbours_only(
    tmp_path: Path, gets: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cube(H=64, W=64), tmp_path / "2019.zarr", (3, 10, 10))
    monkeypatch.setattr(blocks, "BUDGET", 13 * 13 * 3 * 5)
    read(tmp_path, dataset())
    found = of_images(gets)
    assert len(found) == 3 * 49 and max(found.values()) == 4, "one chunk a block: its own, and three around"


def test_a_south_up_cube_is_read_in_its_own_chunks(
    tmp_path: Path, gets: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cube(H=56, W=32).isel(y=slice(None, None, -1)), tmp_path / "2019.zarr", (1, 16, 16))
    monkeypatch.setattr(blocks, "BUDGET", 16 * 16 * 3 * 5)
    read(tmp_path, dataset())
    assert set(of_images(gets).values()) == {1}


def test_memory_is_bounded_by_the_budget_and_not_by_the_cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = cube(H=640, W=640)
    put(xr.concat([data.assign_coords(time=data.time + np.timedelta64(n, "D")) for n in range(8)], "time",
                  data_vars="minimal"), tmp_path / "2019.zarr", (4, 64, 64))  # fmt: skip
    whole = 640 * 640 * 24 * 5
    monkeypatch.setattr(blocks, "BUDGET", whole // 24)
    reader = Cubes(tmp_path, dataset(32), "2019")
    tracemalloc.start()
    for name in itertools.chain(*reader.batches):
        reader.read(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole // 8, f"{peak / 1e6:.1f} of {whole / 1e6:.1f} MB"


def test_small_chunks_make_blocks_up_to_the_goal_so_that_every_worker_gets_some(
    tmp_path: Path, gets: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cube(H=64, W=64), tmp_path / "2019.zarr", (3, 8, 8))
    monkeypatch.setattr(blocks, "GOAL", 8 * 32 * 3 * 5)
    reader = Cubes(tmp_path, dataset(), "2019")
    assert [len(names) for names in reader.batches] == [2 * 8] * 16
    read(tmp_path, dataset())
    assert set(of_images(gets).values()) == {1}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 80), st.integers(1, 80), st.integers(40, 200), st.integers(40, 200),
    st.integers(1, 30), st.integers(10, 20), st.booleans(),
)  # fmt: skip
def test_every_tile_is_in_one_block_and_no_block_is_beyond_the_budget(
    side: int, tall: int, wide: int, H: int, W: int, T: int, budget: int, south_up: bool
) -> None:
    images = xr.DataArray(np.broadcast_to(np.uint16(0), (T, H, W)), dims=("time", "y", "x"))
    images.encoding["chunks"] = (1, tall, wide)
    rows, columns = range(0, H - side + 1, side), range(0, W - side + 1, side)
    places = {f"{row} {column}": (row, column) for row in rows for column in columns}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BUDGET", 1 << budget)
        found = blocks.group(places, side, [images], south_up)
    assert sorted(itertools.chain(*found)) == sorted(places)
    for names in found:
        at = np.array([places[name] for name in names])
        height, width = np.ptp(at, axis=0) + side
        assert height * width * T * 2 <= max(1 << budget, side * side * T * 2)


def netcdf(**encoding: object) -> Callable[[xr.Dataset, Path], None]:
    return lambda data, root: data.to_netcdf(
        root / "2019.nc", engine="netcdf4", encoding=dict.fromkeys(IMAGES, encoding)
    )


@pytest.mark.parametrize(
    "write",
    [
        netcdf(zlib=True, chunksizes=(2, 7, 16)),
        netcdf(contiguous=True),
        lambda data, root: (
            data.assign(B04=data.B04.astype("i2"), B08=data.B08.astype("i2"), SCL=data.SCL.astype("i1"))
            .assign_coords(time=data.time.values.astype("M8[s]").astype("M8[ns]"))
            .assign(crop=data.crop.astype("i2").assign_attrs({**data.crop.attrs, "flag_values": np.int16([0, 7, 255])}))
            .to_netcdf(root / "2019.nc", format="NETCDF3_CLASSIC", encoding={"time": {"dtype": "i4"}})
        ),
        lambda data, root: put(data, root / "2019.zarr", (1, 5, 30), zarr_format=2),
        lambda data, root: put(data, root / "2019.zarr", (3, 16, 16), zarr_format=3, consolidated=False),
        lambda data, root: data.to_zarr(
            root / "2019.zarr",
            encoding={name: {"chunks": (1, 4, 8), "shards": (2, 16, 16)} for name in IMAGES},
        ),
    ],
    ids=["netcdf", "netcdf without chunks", "netcdf 3", "zarr 2", "zarr 3", "zarr shards"],
)
@pytest.mark.parametrize("budget", [1, 3000, 1 << 20])
def test_tiles_do_not_depend_on_format_chunks_or_budget(
    tmp_path: Path, write: Callable[[xr.Dataset, Path], object], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    save(cube(H=30, W=33), tmp_path / "plain/2019.nc")
    wanted = read(tmp_path / "plain", dataset())
    (tmp_path / "other").mkdir()
    write(cube(H=30, W=33), tmp_path / "other")
    monkeypatch.setattr(blocks, "BUDGET", budget)
    assert read(tmp_path / "other", dataset()) == wanted


def test_a_broken_chunk_breaks_its_own_tiles_only(tmp_path: Path) -> None:
    put(cube(H=16, W=16), tmp_path / "2019.zarr", (3, 8, 8))
    (tmp_path / "2019.zarr/B08/c/0/1/0").write_bytes(b"not zstd")
    reader = Cubes(tmp_path, dataset(), "2019")
    assert len(reader.batches) == 1
    broken = []
    for name in reader.ids:
        try:
            reader.read(name)
        except BadInput as error:
            assert "2019.zarr, variable B08, rows from " in str(error) and "not readable" in str(error)
            broken.append(reader.corners[name])
    assert broken == [(8, 0), (8, 4), (12, 0), (12, 4)]


def test_a_netcdf_file_cut_off_is_refused(tmp_path: Path) -> None:
    save(cube(H=64, W=64), tmp_path / "2019.nc")
    path = tmp_path / "2019.nc"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"2019.nc: not a NetCDF file or Zarr store"):
        Cubes(tmp_path, dataset(), "2019")


def test_chunks_beyond_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cube(), tmp_path / "2019.zarr", (3, 8, 9))
    monkeypatch.setattr(blocks, "LARGEST", 400)
    with pytest.raises(BadInput, match=r"variable B04: its chunks of .*'y': 8.* more than .*; write it in smaller"):
        Cube(tmp_path / "2019.zarr")


def test_a_band_without_time_is_refused(tmp_path: Path) -> None:
    data = cube()
    save(data.assign(B05=data.crop.drop_attrs()), tmp_path / "2019.nc")
    with pytest.raises(BadInput, match=r"variable B05: has dimensions \('y', 'x'\); give it time, y and x"):
        Cube(tmp_path / "2019.nc")


def test_bands_are_in_the_order_of_their_numbers_whatever_the_file_says(tmp_path: Path) -> None:
    """A Zarr store without consolidated metadata lists its variables as the file system does."""
    data = cube()
    renamed = data.rename(B04="B8A", B08="B9").assign(B10=data.B04, B2=data.B08, B08=data.B08)
    save(renamed, tmp_path / "2019.nc")
    assert Cube(tmp_path / "2019.nc").bands == ("B02", "B08", "B8A", "B09", "B10")


def test_a_reader_of_cubes_travels_to_another_process(tmp_path: Path) -> None:
    save(cube(), tmp_path / "2019.nc")
    reader = Cubes(tmp_path, dataset(), "2019")
    other = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(other.read(reader.ids[1]).reflectance, reader.read(reader.ids[1]).reflectance)


def mosaic(reader: Cubes) -> tuple[np.ndarray, np.ndarray]:
    """Labels and splits of the cube's ground, pixel by pixel."""
    H, W = reader.cube.shape
    labels, splits = np.full((H, W), VOID, np.uint8), np.full((H, W), "", object)
    for name, (row, column) in reader.corners.items():
        tile = reader.read(name)
        at = slice(row, row + reader.side), slice(column, column + reader.side)
        labels[at], splits[at] = tile.labels, tile.split
    return labels, splits


def test_between_labelled_pixels_of_two_splits_lies_the_buffer_of_both(tmp_path: Path) -> None:
    data = cube(H=48, W=48)
    data.crop[:] = 7
    save(data, tmp_path / "2019.nc")
    labels, splits = mosaic(Cubes(tmp_path, dataset(8, buffer=2), "2019"))
    at = {split: np.argwhere((labels != VOID) & (splits == split)) for split in ("train", "validation", "test")}
    for one, other in itertools.combinations(at.values(), 2):
        gap = np.abs(one[:, None] - other[None]).max(-1).min()
        assert gap == 5, "two pixels on either side are without label"


def test_labels_away_from_other_splits_stay_and_what_is_taken_is_counted(tmp_path: Path) -> None:
    save(cube(H=48, W=48), tmp_path / "2019.nc")
    plain, buffered = (Cubes(tmp_path, dataset(8, buffer=n), "2019") for n in (0, 2))
    before, splits = mosaic(plain)
    after, _ = mosaic(buffered)
    kept = after == before
    assert kept[splits == "train"].any() and np.all(after[~kept] == VOID)
    inner = np.zeros((8, 8), bool)
    inner[2:6, 2:6] = True
    assert kept[np.tile(inner, (6, 6))].all()
    (what,) = (what for what in buffered.findings.counts if "buffer" in what)
    assert set(buffered.findings.counts[what]) == set(buffered.ids), "every tile touches another split"
    assert not any("buffer" in what for what in plain.findings.counts)


def test_the_buffer_is_the_same_in_a_season_whose_cube_is_smaller(tmp_path: Path) -> None:
    """A label is usable in every season or in none: what lies beyond the cube counts as ground too."""
    data = cube(H=32, W=32)
    for name, part in (("whole", data), ("part", data.isel(y=slice(8, 24), x=slice(16, 24)))):
        (tmp_path / name).mkdir()
        save(part, tmp_path / name / "2019.nc")
    whole, part = (Cubes(tmp_path / name, dataset(8, buffer=3), "2019") for name in ("whole", "part"))
    for name in part.ids:
        assert np.array_equal(part.read(name).labels, whole.read(name).labels)


def test_a_buffer_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    save(cube(), tmp_path / "2019.nc")
    with pytest.raises(BadInput, match=r"dataset.buffer: 2 pixels on both sides leave nothing of a tile of 4"):
        Cubes(tmp_path, dataset(4, buffer=2), "2019")


def test_the_libraries_keep_the_settings_of_the_program(tmp_path: Path) -> None:
    for form in ("zarr", "nc"):
        (tmp_path / form).mkdir()
    put(cube(), tmp_path / "zarr/2019.zarr", (3, 8, 9))
    save(cube(), tmp_path / "nc/2019.nc")
    before = zarr.config.get("async.concurrency"), netCDF4.get_chunk_cache()
    for form in ("zarr", "nc"):
        read(tmp_path / form, dataset())
    assert (zarr.config.get("async.concurrency"), netCDF4.get_chunk_cache()) == before
