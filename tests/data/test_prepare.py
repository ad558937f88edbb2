"""The step `prepare`: broken tiles are left out by name, and too many of them leave nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from stcln.data.prepare import prepare
from stcln.data.prepare.tiles import READERS
from stcln.data.readers.mtlcc import Mtlcc
from stcln.data.readers.pastis import Pastis
from stcln.data.simulate import archive as simulate
from stcln.data.store import SeasonStore
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.storage import digest, read_json
from stcln.workspace import Workspace

Make = Callable[..., Workspace]
ROOT = "data_IJGI18/datasets/full/240"


@pytest.fixture
def archive(shared: Path, tmp_path: Path) -> Path:
    """A writable copy of the small MTLCC tree."""
    shutil.copytree(shared / "real/mtlcc", tmp_path / "archive", copy_function=shutil.copyfile)
    for path in (tmp_path / "archive").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "archive"


def cut_off(archive: Path, tile: str) -> None:
    path = archive / ROOT / "data18" / f"{tile}.tfrecord.gz"
    path.write_bytes(path.read_bytes()[:5000])


def test_a_broken_tile_is_left_out_by_name_with_its_reason(archive: Path, workspace: Make) -> None:
    cut_off(archive, "1801")
    place = workspace(archive, "own-mtlcc", max_rejected=0.25)
    summary = prepare(place, "2018", Silent())
    found = read_json(place.season("2018") / "validation.json")
    assert (summary["tiles"], summary["rejected_tiles"]) == (3, 1)
    assert list(found["rejected"]) == ["1801"] and "1801.tfrecord.gz: broken gzip" in found["rejected"]["1801"]
    assert found["rejected"]["1801"].startswith("data/raw/"), "no path of one machine, which would change the digest"
    assert SeasonStore.open(place.season("2018")).ids == ["1802", "1803", "1804"]


def test_too_many_broken_tiles_end_the_step_and_leave_nothing(archive: Path, workspace: Make) -> None:
    cut_off(archive, "1801")
    cut_off(archive, "1803")
    place = workspace(archive, "own-mtlcc", max_rejected=0.25)
    with pytest.raises(
        BadInput, match=r"1803.tfrecord.gz: 2 of 4 tiles are broken; .*raise dataset.max_rejected \(0.25\)"
    ):
        prepare(place, "2018", Silent())
    assert not place.seasons.exists()


def test_a_step_that_fails_keeps_the_store_that_stands(archive: Path, workspace: Make) -> None:
    place = workspace(archive, "own-mtlcc", max_rejected=0)
    prepare(place, "2018", Silent())
    before = digest(place.season("2018"))
    cut_off(archive, "1804")
    with pytest.raises(BadInput):
        prepare(place, "2018", Silent())
    assert digest(place.season("2018")) == before and len(list(place.seasons.iterdir())) == 1


def test_a_tile_of_another_shape_or_crs_is_rejected(archive: Path, workspace: Make) -> None:
    table = archive / ROOT / "geotransforms.csv"
    table.write_text(table.read_text().replace("1802,501600,10,0,5629680,0,-10,32631", "1802,1,10,0,2,0,-10,32632"))
    place = workspace(archive, "own-mtlcc", max_rejected=0.25)
    prepare(place, "2018", Silent())
    reason = read_json(place.season("2018") / "validation.json")["rejected"]["1802"]
    assert "lies in EPSG:32632, tile 1801 in EPSG:32631" in reason


def test_where_the_first_tile_is_the_odd_one_the_sentence_says_that_it_may_be(archive: Path, workspace: Make) -> None:
    table = archive / ROOT / "geotransforms.csv"
    table.write_text(
        "\n".join(
            line.replace(",32631", ",32632") if line.startswith("1801,") else line
            for line in table.read_text().splitlines()
        )
    )
    place = workspace(archive, "own-mtlcc", max_rejected=0.25)
    with pytest.raises(BadInput, match="if tile 1801, the first, is the odd one, take that out"):
        prepare(place, "2018", Silent())


def test_an_unknown_class_to_ignore_is_refused(shared: Path, workspace: Make) -> None:
    place = workspace(shared / "real/mtlcc", "own-mtlcc", ignore=["Unknown"])
    with pytest.raises(BadInput, match=r"field dataset.ignore: no class 'Unknown' among unknown, sugar beet"):
        prepare(place, "2018", Silent())


def test_reflectance_that_is_not_times_ten_thousand_is_refused(
    shared: Path, workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Mtlcc):
        def read(self, tile: str) -> Tile:
            found = super().read(tile)
            found.reflectance[:] = 1
            return found

    monkeypatch.setitem(READERS, "mtlcc", Small)
    place = workspace(shared / "real/mtlcc", "own-mtlcc")
    with pytest.raises(BadInput, match="no valid value of the season is above 1: reflectance seems not to be x 10,000"):
        prepare(place, "2018", Silent())
    assert not any(place.seasons.iterdir())


def test_statistics_are_of_the_tiles_trained_on(real: dict[str, Workspace]) -> None:
    season = SeasonStore.open(real["mtlcc"].season("2018"))
    train = [i for i, split in enumerate(season.splits) if split == "train_fold0"]
    values = np.concatenate([season.read(i)[0].transpose(0, 2, 3, 1)[season.read(i)[1]] for i in train]).astype(float)
    assert len(train) == 2
    assert np.allclose(season.mean, values.mean(0)) and np.allclose(season.std, values.std(0), rtol=1e-4)


def test_lineage_names_what_the_season_was_read_from_and_stands_beside_the_validation(
    real: dict[str, Workspace],
) -> None:
    read = {
        "cubes": ["flanders_2019.nc"],
        "mtlcc": [f"{ROOT}/{name}" for name in ("classes.txt", "data19", "geotransforms.csv", "tileids")],
        "pastis": ["PASTIS/ANNOTATIONS", "PASTIS/DATA_S2", "PASTIS/metadata.geojson"],
    }
    for layout, workspace in real.items():
        found = read_json(workspace.season("2019") / "lineage.json")
        assert found["stage"] == "prepare@2019"
        assert found["inputs"] == {f"data/raw/{name}": digest(workspace.raw / name) for name in read[layout]}
        assert set(found["outputs"]) >= {"validation.json", "reflectance", "zarr.json"}


def test_radar_goes_into_the_store_as_it_was_read_with_dates_of_its_own(tmp_path: Path, workspace: Make) -> None:
    simulate(tmp_path / "archive", "pastis-r", ["2019"], 4, 16, 3, Silent())
    place = workspace(tmp_path / "archive", "own-pastis", root=".", bands=["B04", "B08", "S1A_VV", "S1D_VH"])
    prepare(place, "2019", Silent())
    season, reader = SeasonStore.open(place.season("2019")), Pastis(place.raw, place.study.dataset, "2019")
    assert season.bands == ("B04", "B08", "S1A_VV", "S1D_VH")
    group: Any = zarr.open_group(place.season("2019"), mode="r")
    for at, name in enumerate(season.ids):
        tile = reader.read(name)
        assert set(tile.radar) == {"S1A", "S1D"}
        for orbit, found in tile.radar.items():
            T = len(found.dates)
            assert np.array_equal(group[orbit][at, :T], found.values)
            days = np.datetime64(season.start) + group[f"date_{orbit}"][at, :T].astype("timedelta64[D]")
            assert np.array_equal(days, found.dates)
        images = season.read(at)[0]
        assert np.array_equal(images[:, :2], tile.reflectance) and images.shape[1] == 4
