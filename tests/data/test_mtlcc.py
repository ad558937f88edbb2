"""The MTLCC reader on small trees with one fault each."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stcln.data.readers import tfrecord
from stcln.data.readers.mtlcc import Mtlcc
from stcln.errors import BadInput
from stcln.study import Dataset, Only

DATASET = Dataset(source="x", layout="mtlcc")
SIDE = 12


def features(
    doy: Sequence[int] = (5, 40, 300, 0), label: int = 26, seed: int = 0, side: int = SIDE
) -> dict[str, bytes | Sequence[int]]:
    """A record; a date is real where its day is not 0, and labels are of one class."""
    rng, T = np.random.default_rng(seed), len(doy)
    found: dict[str, bytes | Sequence[int]] = {}
    for key, times, bands in (("x10", 1, 4), ("x20", 2, 6), ("x60", 6, 3)):
        shape = (T, side // times, side // times, bands)
        found |= {f"{key}/data": rng.integers(1, 9000, shape).astype("<i8").tobytes(), f"{key}/shape": shape}
    labels = np.full((T, side, side), label, "<i8")
    found |= {"labels/data": labels.tobytes(), "labels/shape": labels.shape, "dates/shape": [T]}
    return found | {"dates/doy": np.array(doy, "<i8").tobytes(), "dates/year": np.full(T, 2017, "<i8").tobytes()}


def save(root: Path, tile: str, content: dict[str, bytes | Sequence[int]]) -> Path:
    path = root / "data16" / f"{tile}.tfrecord.gz"
    tfrecord.write(path, [tfrecord.encode(content)])
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("0|unknown\n1|sugar beet\n26|maize\n")
    (tmp_path / "geotransforms.csv").write_text("7,600000,10,0,5400000,0,-10,32632\n")
    (tmp_path / "tileids").mkdir()
    (tmp_path / "tileids/train_fold0.tileids").write_text("7\n9\n")
    (tmp_path / "tileids/train_fold1.tileids").write_text("7\n")
    save(tmp_path, "7", features())
    return tmp_path


def test_the_year_is_the_folders_and_padded_dates_are_left_out(root: Path) -> None:
    tile = Mtlcc(root, DATASET, "2016").read("7")
    assert [str(day) for day in tile.dates] == ["2016-01-05", "2016-02-09", "2016-10-26"]
    assert (tile.crs, tile.transform) == ("EPSG:32632", (10.0, 0.0, 600000.0, 0.0, -10.0, 5400000.0))


def test_coarse_bands_are_repeated_behind_the_fine_ones(root: Path) -> None:
    tile = Mtlcc(root, DATASET, "2016").read("7")
    raw = features()
    x20 = np.frombuffer(raw["x20/data"], "<i8").reshape(4, 6, 6, 6)  # type: ignore[arg-type]
    x60 = np.frombuffer(raw["x60/data"], "<i8").reshape(4, 2, 2, 3)  # type: ignore[arg-type]
    assert tile.reflectance.shape == (3, 13, SIDE, SIDE)
    assert np.array_equal(tile.reflectance[:, 4:10, 1::2, ::2], x20[:3].transpose(0, 3, 1, 2))
    assert np.array_equal(tile.reflectance[:, 10:, 5::6, ::6], x60[:3].transpose(0, 3, 1, 2))


def test_padding_between_real_dates_is_left_out_too(root: Path) -> None:
    content = features((5, 0, 300, 0))
    save(root, "7", content)
    tile = Mtlcc(root, DATASET, "2016").read("7")
    x10 = np.frombuffer(content["x10/data"], "<i8").reshape(4, SIDE, SIDE, 4)  # type: ignore[arg-type]
    assert [str(day) for day in tile.dates] == ["2016-01-05", "2016-10-26"]
    assert np.array_equal(tile.reflectance[:, :4], x10[[0, 2]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("side", [24, 48])
def test_tiles_of_240_and_480_metres_are_read(root: Path, side: int) -> None:
    save(root, "7", features(side=side))
    tile = Mtlcc(root, DATASET, "2016").read("7")
    assert tile.reflectance.shape == (3, 13, side, side) and tile.labels.shape == (side, side)


def test_a_trial_takes_its_tiles_and_calls_no_other_absent(root: Path) -> None:
    save(root, "8", features())
    save(root, "9", features())
    trial = DATASET.model_copy(update={"only": Only(tiles=("9",))})
    reader = Mtlcc(root, trial, "2016")
    assert reader.ids == ["9"] and not any(reader.absent.values())
    assert Mtlcc(root, DATASET.model_copy(update={"only": Only(fold=1)}), "2016").ids == ["7"]


def test_bands_are_picked_by_name_in_the_studys_order(root: Path) -> None:
    reader = Mtlcc(root, DATASET.model_copy(update={"bands": ("B8", "B04")}), "2016")
    whole = Mtlcc(root, DATASET, "2016").read("7").reflectance
    assert reader.bands == ("B08", "B04") and np.array_equal(reader.read("7").reflectance, whole[:, [3, 0]])
    with pytest.raises(BadInput, match=r"no band B99; choose dataset.bands among B04, B03"):
        Mtlcc(root, DATASET.model_copy(update={"bands": ("B99",)}), "2016")


def test_a_raw_id_becomes_the_number_of_its_line(root: Path) -> None:
    reader = Mtlcc(root, DATASET, "2016")
    assert reader.classes == ("unknown", "sugar beet", "maize") and (reader.read("7").labels == 2).all()


def test_classes_that_the_study_leaves_out_are_outside_every_class(root: Path) -> None:
    reader = Mtlcc(root, DATASET.model_copy(update={"classes": ("unknown", "sugar beet")}), "2016")
    assert (reader.read("7").labels == 255).all()


def test_a_tile_is_in_every_list_that_names_it_and_the_absent_are_counted(root: Path) -> None:
    save(root, "8", features())
    reader = Mtlcc(root, DATASET, "2016")
    assert reader.ids == ["7"] and reader.read("7").split == "train_fold0 train_fold1"
    assert (list(reader.absent.values()), list(reader.unlisted.values())) == ([["9"]], [["8"]])


def test_unsorted_and_repeated_days_are_mended_and_told(root: Path) -> None:
    content = features((300, 5, 5, 40))
    images = np.frombuffer(content["x10/data"], "<i8").reshape(4, SIDE, SIDE, 4).copy()  # type: ignore[arg-type]
    for key in ("x10", "x20", "x60"):
        part = np.frombuffer(content[f"{key}/data"], "<i8").reshape(content[f"{key}/shape"]).copy()  # type: ignore[arg-type]
        part[1, : part.shape[1] // 2] = 0  # the north of the first of two images of day 5 was not seen
        content[f"{key}/data"] = part.tobytes()
    save(root, "7", content)
    reader = Mtlcc(root, DATASET, "2016")
    tile = reader.read("7")
    assert [str(day) for day in tile.dates] == ["2016-01-05", "2016-02-09", "2016-10-26"] and tile.valid.all()
    assert np.array_equal(tile.reflectance[0, :4, :6], images[2, :6].transpose(2, 0, 1))
    assert np.array_equal(tile.reflectance[0, :4, 6:], images[1, 6:].transpose(2, 0, 1))
    assert reader.findings.counts == {
        "dates unsorted, sorted": {"7": 1}, "images of a day that has another, merged": {"7": 1},
    }  # fmt: skip


def test_values_beyond_int16_are_clipped_and_counted(root: Path) -> None:
    content = features()
    content["x60/data"] = np.full((4, 2, 2, 3), 40_000, "<i8").tobytes()
    save(root, "7", content)
    reader = Mtlcc(root, DATASET, "2016")
    assert reader.read("7").reflectance.max() == 32_767
    assert reader.findings.counts == {"values above 32,767, clipped": {"7": 3 * 3 * SIDE * SIDE}}


def test_values_below_int16_are_clipped_and_counted_where_the_study_keeps_them(root: Path) -> None:
    content = features()
    content["x60/data"] = np.full((4, 2, 2, 3), -40_000, "<i8").tobytes()
    save(root, "7", content)
    reader = Mtlcc(root, DATASET.model_copy(update={"bands": ("B10", "B02")}), "2016")
    assert (reader.read("7").reflectance[:, 0] == -32_767).all()
    assert reader.findings.counts == {"values below -32,767, clipped": {"7": 3 * SIDE * SIDE}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels/data": np.full((4, SIDE, SIDE), 77, "<i8").tobytes()}, r"unknown class 77; add it to classes.txt\."),
        ({"x20/shape": (4, 6, 6, 5)}, r"x20 has shape \(4, 12, 12, 5\), not \(4, 12, 12, 6\)"),
        ({"x10/data": b"12345678"}, "feature x10/data has 8 bytes, its shape"),
        ({"x20/data": b"", "x20/shape": (3, 6, 6, 6)}, r"x20 has shape \(3, 12, 12, 6\), not \(4, 12, 12, 6\)"),
        ({"labels/shape": (4, SIDE)}, "feature labels/shape is missing or not 3 sizes"),
        ({"dates/doy": np.zeros(4, "<i8").tobytes()}, "no date between 2016-01-01"),
        ({"dates/doy": b"123"}, "feature dates/doy has 3 bytes"),
    ],
)
def test_a_broken_record_is_refused_with_file_fault_and_remedy(
    root: Path, change: dict[str, bytes | Sequence[int]], message: str
) -> None:
    save(root, "7", features() | change)
    with pytest.raises(BadInput, match=rf"data16/7.tfrecord.gz: .*{message}"):
        Mtlcc(root, DATASET, "2016").read("7")


def test_a_broken_file_is_refused(root: Path) -> None:
    path = root / "data16/7.tfrecord.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(BadInput, match="no record inside"):
        Mtlcc(root, DATASET, "2016").read("7")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "0 unknown\n", "line '0 unknown' is not `id|name`"),
        ("geotransforms.csv", "7,600000,10\n", "is no geotransform"),
        ("geotransforms.csv", "8,600000,10,0,5400000,0,-10,32632\n", r"no line in geotransforms.csv"),
    ],
)
def test_a_broken_list_is_refused(root: Path, name: str, text: str, message: str) -> None:
    (root / name).write_text(text)
    with pytest.raises(BadInput, match=message.replace("|", r"\|")):
        Mtlcc(root, DATASET, "2016").read("7")


def test_a_missing_season_or_list_is_named(root: Path) -> None:
    with pytest.raises(BadInput, match="data17: no folder of season 2017"):
        Mtlcc(root, DATASET, "2017")
    (root / "classes.txt").unlink()
    with pytest.raises(BadInput, match=r"classes.txt: the file is missing"):
        Mtlcc(root, DATASET, "2016")
