"""The reader of MTLCC's GeoTIFF layout on small trees with one fault each."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from stcln.data.readers.mtlcc_geotiff import MtlccGeotiff
from stcln.errors import BadInput
from stcln.study import Dataset

DATASET = Dataset(source="x", layout="mtlcc-geotiff")
SIDE = 12
DAYS = ("20160105", "20160209", "20161026")
SHAPES = {"10m": (4, SIDE, 10), "20m": (6, SIDE // 2, 20), "60m": (3, SIDE // 6, 60)}  # bands, side, pixel


def save(path: Path, image: np.ndarray, pixel: int = 10, crs: str | None = "EPSG:32632", west: float = 600_000) -> None:
    grid = {"crs": crs, "transform": rasterio.Affine(pixel, 0, west, 0, -pixel, 5_400_000)}
    C, H, W = image.shape
    with rasterio.open(path, "w", driver="GTiff", height=H, width=W, count=C, dtype=image.dtype, **grid) as file:
        file.write(image)


def image(day: str, resolution: str) -> np.ndarray:
    C, side, _ = SHAPES[resolution]
    rng = np.random.default_rng([int(day), C])
    return rng.integers(1, 9000, (C, side, side)).astype(np.uint16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("0|unknown\n1|sugar beet\n26|maize\n")
    (tmp_path / "tileids").mkdir()
    (tmp_path / "tileids/train_fold0.tileids").write_text("7\n9\n")
    tile = tmp_path / "data16/7"
    tile.mkdir(parents=True)
    for day in DAYS:
        for resolution, (_, _, pixel) in SHAPES.items():
            save(tile / f"{day}_{resolution}.tif", image(day, resolution), pixel)
    save(tile / "y.tif", np.full((1, SIDE, SIDE), 26, np.uint16))
    return tmp_path


def test_a_tile_is_its_images_in_the_order_of_their_dates_with_the_ground_of_the_finest(root: Path) -> None:
    tile = MtlccGeotiff(root, DATASET, "2016").read("7")
    assert [str(day).replace("-", "") for day in tile.dates] == list(DAYS)
    assert (tile.crs, tile.transform) == ("EPSG:32632", (10.0, 0.0, 600000.0, 0.0, -10.0, 5400000.0))
    assert tile.split == "train_fold0" and (tile.labels == 2).all() and tile.valid.all()
    for t, day in enumerate(DAYS):
        assert np.array_equal(tile.reflectance[t, :4], image(day, "10m"))
        assert np.array_equal(tile.reflectance[t, 4:10, 1::2, ::2], image(day, "20m"))
        assert np.array_equal(tile.reflectance[t, 10:, 5::6, ::6], image(day, "60m"))


def test_bands_are_picked_by_name_in_the_studys_order(root: Path) -> None:
    reader = MtlccGeotiff(root, DATASET.model_copy(update={"bands": ("B11", "B04")}), "2016")
    assert reader.bands == ("B11", "B04")
    assert np.array_equal(reader.read("7").reflectance[0, 1], image(DAYS[0], "10m")[0])


def test_the_folder_of_one_year_only_is_called_data(root: Path) -> None:
    (root / "data16").rename(root / "data")
    assert len(MtlccGeotiff(root, DATASET, "2016").read("7").dates) == 3
    with pytest.raises(BadInput, match=r"data/7: no date between 2018-01-01"):
        MtlccGeotiff(root, DATASET, "2018").read("7")


def test_a_seasons_own_folder_goes_before_that_of_one_year(root: Path) -> None:
    (root / "data/8").mkdir(parents=True)
    assert MtlccGeotiff(root, DATASET, "2016").ids == ["7"]


def test_listed_tiles_without_a_directory_are_absent(root: Path) -> None:
    reader = MtlccGeotiff(root, DATASET, "2016")
    assert reader.ids == ["7"] and list(reader.absent.values()) == [["9"]]
    with pytest.raises(BadInput, match="data16/9: the tile's directory is missing"):
        reader.read("9")


def test_what_lies_beside_the_images_is_passed_over(root: Path) -> None:
    (root / "data16/7/20160105_10m.tif.aux.xml").write_text("<x/>")
    (root / "data16/7/quicklook.png").write_bytes(b"")
    assert len(MtlccGeotiff(root, DATASET, "2016").read("7").dates) == 3


def cut(tile: Path) -> None:
    path = tile / "20160209_20m.tif"
    path.write_bytes(path.read_bytes()[:300])


def bare(shape: tuple[int, int, int]) -> bytes:
    """A GeoTIFF of ones that does not say where it lies."""
    C, H, W = shape
    with warnings.catch_warnings(), MemoryFile() as held:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with held.open(driver="GTiff", height=H, width=W, count=C, dtype="uint16") as file:
            file.write(np.ones(shape, np.uint16))
        return bytes(held.read())


def elsewhere(tile: Path) -> None:
    """A file that is no GeoTIFF but that GDAL would follow to another."""
    text = f"<VRTDataset><SourceFilename>{tile}/y.tif</SourceFilename></VRTDataset>"
    (tile / "20160209_20m.tif").write_text(text)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda t: (t / "20160209_60m.tif").unlink(), "20160209_60m.tif: the file is missing"),
        (lambda t: (t / "20161026_10m.tif").unlink(), "20161026_10m.tif: the file is missing"),
        (lambda t: (t / "y.tif").unlink(), "y.tif: the file is missing"),
        (lambda t: [path.unlink() for path in t.glob("2016*")], "7: no image <YYYYMMDD>_10m.tif inside"),
        (lambda t: (t / "20160105_10m.tif").rename(t / "20160231_10m.tif"), "7: an image's date is none"),
        (cut, "20160209_20m.tif: not a whole GeoTIFF"),
        (elsewhere, "20160209_20m.tif: not a whole GeoTIFF"),
        (
            lambda t: save(t / "20160209_20m.tif", np.ones((6, 4, 6), np.uint16)),
            r"20160209_20m.tif: the raster has shape \(6, 4, 6\), not \(6, 6, 6\)",
        ),
        (
            lambda t: [save(t / f"{day}_20m.tif", np.ones((5, 6, 6), np.uint16)) for day in DAYS],
            r"x20 has shape \(3, 12, 12, 5\), not \(3, 12, 12, 6\)",
        ),
        (
            lambda t: save(t / "20160209_10m.tif", np.full((4, SIDE, SIDE), np.nan, np.float32)),
            "20160209_10m.tif: holds float32, not integers",
        ),
        (
            lambda t: save(t / "20160105_10m.tif", image(DAYS[0], "10m"), crs=None),
            "7: no coordinate reference system with an EPSG code",
        ),
        (
            lambda t: save(t / "20160209_10m.tif", image(DAYS[1], "10m"), west=600_010),
            "lies elsewhere than 20160105_10m.tif, from 600010,5400000 to 600130,5399880 in EPSG:32632; fetch",
        ),
        (
            lambda t: save(t / "20160209_10m.tif", image(DAYS[1], "10m"), crs="EPSG:32633"),
            "20160209_10m.tif: lies elsewhere than 20160105_10m.tif, .* in EPSG:32633",
        ),
        (
            lambda t: save(t / "20161026_20m.tif", image(DAYS[2], "20m"), 20, west=600_005),
            "20161026_20m.tif: lies elsewhere than 20160105_10m.tif",
        ),
        (
            lambda t: save(t / "20160209_60m.tif", image(DAYS[1], "60m"), 50),
            "20160209_60m.tif: lies elsewhere than 20160105_10m.tif",
        ),
        (
            lambda t: save(t / "y.tif", np.full((1, SIDE, SIDE), 26, np.uint16), west=599_880),
            "y.tif: lies elsewhere than 20160105_10m.tif, from 599880,5400000",
        ),
        (
            lambda t: (t / "y.tif").write_bytes(bare((1, SIDE, SIDE))),
            "y.tif: lies elsewhere than 20160105_10m.tif, .* without a coordinate reference system",
        ),
        (
            lambda t: (t / "20160105_10m.tif").write_bytes(bare((4, SIDE, SIDE))),
            "7: no coordinate reference system with an EPSG code",
        ),
        (
            lambda t: save(t / "y.tif", np.full((1, SIDE, SIDE), 77, np.uint16)),
            "unknown class 77; add it to classes.txt",
        ),
        (
            lambda t: save(t / "y.tif", np.full((1, 6, 6), 26, np.uint16)),
            r"y.tif: the raster has shape \(1, 6, 6\), not \(1, 12, 12\)",
        ),
    ],
)
def test_a_broken_tile_is_refused_with_file_fault_and_remedy(
    root: Path, fault: Callable[[Path], object], message: str
) -> None:
    fault(root / "data16/7")
    with pytest.raises(BadInput, match=message):
        MtlccGeotiff(root, DATASET, "2016").read("7")


def test_files_of_a_tile_may_differ_by_less_than_a_tenth_of_a_pixel(root: Path) -> None:
    save(root / "data16/7/20160209_20m.tif", image(DAYS[1], "20m"), 20, west=600_000.9)
    assert len(MtlccGeotiff(root, DATASET, "2016").read("7").dates) == 3


def test_a_missing_season_is_named(root: Path) -> None:
    with pytest.raises(BadInput, match="data17: no folder of season 2017"):
        MtlccGeotiff(root, DATASET, "2017")
