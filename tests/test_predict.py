import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from made_study import SIDE

from stcln import lineage, palette
from stcln.data import store
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.checkpoint import Card, save
from stcln.model.network import STCLN, Config
from stcln.predict import predict
from stcln.workspace import Workspace

BANDS = ("B02", "B03", "B04", "B08")
CLASSES = ("unknown", "meadow", "maize", "winter wheat")
DATES = np.array(["2019-03-01", "2019-05-05", "2019-05-20", "2019-07-11", "2019-08-30"], "datetime64[ns]")


@pytest.fixture
def card() -> Card:
    return Card(
        kind="classifier", size="tiny", bands=("B08", "B04", "B03"), classes=CLASSES, ignore=(0,),
        mean=(3000, 900, 800), std=(800, 300, 200),
        window=8, method={"positions": "days", "test_window": "same"}, length={"dates": 4},
        length_name="d4", season="2018", season_start="01-01", seed=1,
    )  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, card: Card) -> Path:
    """A network with random weights, its last layer enlarged so that every pixel has its own say."""
    torch.manual_seed(3)
    network = STCLN(Config.of(card.size, 3, 4)).eval()
    with torch.no_grad():
        next(p for p in network.parameters() if p.shape[:2] == (4, 64)).mul_(8)
    place = tmp_path / "model"
    place.mkdir()
    save(place, network, card)
    return place


def cube(path: Path, height: int = 21, width: int = 19, drop: str = "") -> Path:
    """A simulated scene of 2019, with a corner that no date saw."""
    rng = np.random.default_rng(5)
    scl = rng.choice([4, 4, 5, 9], (len(DATES), height, width)).astype(np.uint8)
    scl[:, :3, :4] = 9
    bands = {
        name: (("time", "y", "x"), rng.integers(300, 5000, scl.shape).astype(np.uint16))
        for name in BANDS
        if name != drop
    }
    at = {"time": DATES, "y": 5_650_005.0 - 10 * np.arange(height), "x": 500_005.0 + 10 * np.arange(width)}
    data = xr.Dataset(bands | {"SCL": (("time", "y", "x"), scl)}, at, {"crs": "EPSG:32631", "season": "2019"})
    data.to_netcdf(path)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as image:
        return image.read()


def test_the_map_lies_where_the_cube_lies_and_names_its_classes(tmp_path: Path, model: Path) -> None:
    told = predict(cube(tmp_path / "scene.nc"), model, tmp_path / "map.tif", Silent())
    with rasterio.open(tmp_path / "map.tif") as image:
        assert image.crs.to_epsg() == 32631 and image.transform[:6] == (10, 0, 500_000, 0, -10, 5_650_010)
        assert (image.height, image.width, image.count, image.nodata) == (21, 19, 2, 255)
        assert image.dtypes == ("uint8", "uint8") and image.descriptions == ("class", "confidence, percent")
        assert image.profile["tiled"] and image.compression.name == "deflate"
        assert image.colormap(1)[2][:3] == palette.rgb(palette.of_classes(4, (0,))[2])
        assert json.loads(image.tags()["stcln_classes"]) == list(CLASSES)
        assert json.loads(image.tags()["stcln_card"])["bands"] == ["B08", "B04", "B03"]
        classes, confidence = image.read()
    assert (classes[:3, :4] == 255).all() and (confidence[:3, :4] == 255).all(), "no date saw this corner"
    assert set(np.unique(classes[3:])) <= {0, 1, 2, 3, 255} and len(np.unique(classes)) > 2
    assert 25 <= confidence[classes != 255].min() < confidence[classes != 255].max() <= 100
    assert told["mapped"] == round(float((classes != 255).mean()), 4)


@pytest.mark.parametrize("block", [7, 10, 16])
def test_the_map_does_not_depend_on_the_size_of_the_rectangles(tmp_path: Path, model: Path, block: int) -> None:
    scene = cube(tmp_path / "scene.nc")
    predict(scene, model, tmp_path / "whole.tif", Silent())
    predict(scene, model, tmp_path / "parts.tif", Silent(), block=block)
    whole, parts = read(tmp_path / "whole.tif").astype(int), read(tmp_path / "parts.tif").astype(int)
    assert (whole[0] == parts[0]).all()
    assert np.abs(whole[1] - parts[1]).max() <= 1, "percent, rounded"


def test_no_more_of_a_scene_is_read_at_once_than_a_rectangle_and_its_windows(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stcln.data.readers.cube import Cube

    sizes: list[int] = []
    plain = Cube.read

    def watched(self, rows, columns, *rest):
        sizes.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return plain(self, rows, columns, *rest)

    monkeypatch.setattr(Cube, "read", watched)
    predict(cube(tmp_path / "scene.nc", 64, 48), model, tmp_path / "map.tif", Silent(), block=16)
    assert len(sizes) == 12 and max(sizes) <= (16 + 2 * 8) ** 2


def test_the_onnx_file_and_its_checkpoint_give_the_same_map(tmp_path: Path, model: Path, card: Card) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra [onnx]")
    from stcln.model.checkpoint import load_classifier
    from stcln.model.served import write_onnx

    scene = cube(tmp_path / "scene.nc")
    write_onnx(tmp_path / "model.onnx", load_classifier(model)[0], card, {})
    predict(scene, model, tmp_path / "torch.tif", Silent())
    predict(scene, tmp_path / "model.onnx", tmp_path / "onnx.tif", Silent())
    ours, theirs = read(tmp_path / "torch.tif").astype(int), read(tmp_path / "onnx.tif").astype(int)
    assert (ours[0] == theirs[0]).all() and np.abs(ours[1] - theirs[1]).max() <= 1


def season(path: Path, shift: float = 0, start: date = date(2019, 1, 1)) -> Path:
    """A store of three tiles of a 2 x 2 square; `shift` moves the last, in metres."""
    rng = np.random.default_rng(9)
    tiles = []
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        images = rng.integers(300, 5000, (5, 4, SIDE, SIDE)).astype(np.int16)
        place = (10.0, 0.0, 500_000.0 + 120 * column + shift * (number == 2), 0.0, -10.0, 5_650_000.0 - 120 * row)
        labels = np.ones((SIDE, SIDE), np.uint8)
        valid = np.ones((5, SIDE, SIDE), bool)
        tiles.append(
            Tile(f"t{number}", "test", images, DATES.astype("datetime64[D]"), valid, labels, "EPSG:32631", place)
        )
    header = store.Header(
        season="2019", start=start, layout="cube", bands=BANDS, classes=CLASSES, ignore=(0,), simulated=True
    )
    store.write(path, tiles, header, lambda tile: True)
    return path


def test_the_tiles_of_a_season_store_become_one_mosaic(tmp_path: Path, model: Path) -> None:
    predict(season(tmp_path / "2019.zarr"), model, tmp_path / "map.tif", Silent())
    classes = read(tmp_path / "map.tif")[0]
    assert classes.shape == (2 * SIDE, 2 * SIDE)
    assert (classes[SIDE:, SIDE:] == 255).all() and (classes[:SIDE] < 4).all() and (classes[SIDE:, :SIDE] < 4).all()


def test_positions_count_from_the_models_day_0_whatever_the_stores(tmp_path: Path, model: Path) -> None:
    maps = []
    for start in (date(2019, 1, 1), date(2018, 9, 1)):
        predict(season(tmp_path / f"{start}/2019.zarr", start=start), model, tmp_path / "map.tif", Silent())
        maps.append(read(tmp_path / "map.tif"))
    assert np.array_equal(*maps)


def test_qgis_and_gdal_find_names_and_colours_beside_the_map(tmp_path: Path, model: Path) -> None:
    predict(cube(tmp_path / "scene.nc"), model, tmp_path / "map.tif", Silent())
    style = (tmp_path / "map.qml").read_text()
    colour = palette.of_classes(4, (0,))[3]
    assert f'<paletteEntry value="3" color="{colour}" label="winter wheat" alpha="255" />' in style
    assert "<Category>winter wheat</Category>" in (tmp_path / "map.tif.aux.xml").read_text()


def test_the_map_remembers_what_made_it(tmp_path: Path, model: Path) -> None:
    (model.parent / "params.yaml").write_text("name: x")
    scene = cube(tmp_path / "scene.nc")
    (tmp_path / "maps").mkdir()
    predict(scene, model, tmp_path / "maps/map.tif", Silent())
    (model.parent / "params.yaml").unlink()
    found = lineage.trace(tmp_path / "maps/map.tif", Workspace(tmp_path))
    assert found.matches and set(found.node.record["inputs"]) == {"scene.nc", "model"}
    scene.write_bytes(b"another")
    assert (
        lineage.trace(tmp_path / "maps/map.tif", Workspace(tmp_path)).problems[0].startswith("scene.nc changed since")
    )


def test_the_same_map_has_the_same_bytes(tmp_path: Path, model: Path) -> None:
    scene = cube(tmp_path / "scene.nc")
    for name in ("a", "b"):
        predict(scene, model, tmp_path / f"{name}.tif", Silent())
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_what_cannot_be_mapped_ends_in_a_sentence_and_leaves_nothing(tmp_path: Path, model: Path) -> None:
    scene, broken = cube(tmp_path / "scene.nc"), tmp_path / "broken.nc"
    broken.write_bytes(b"no cube")
    for source, wanted, message in (
        (tmp_path / "none.nc", "map.tif", "nothing is here; give a cube"),
        (broken, "map.tif", "not a NetCDF file or Zarr store"),
        (cube(tmp_path / "few.nc", drop="B08"), "map.tif", "it lacks B08 of the model's bands; add them"),
        (season(tmp_path / "2019.zarr", shift=3), "map.tif", "its tiles do not share one grid of pixels"),
        (scene, "map.png", "let it end in .tif"),
    ):
        with pytest.raises(BadInput, match=message):
            predict(source, model, tmp_path / wanted, Silent())
    with pytest.raises(BadInput, match="no model is here"):
        predict(scene, tmp_path / "nowhere", tmp_path / "map.tif", Silent())
    assert not [path for path in tmp_path.iterdir() if "map" in path.name]
