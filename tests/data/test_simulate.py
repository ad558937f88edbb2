"""The simulated region: near to real Sentinel-2 figures, and read like the real archives."""

import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from tiny_study import STUDY

from stcln.cli import run_verb
from stcln.data.readers.cubes import Cubes
from stcln.data.readers.mtlcc import Mtlcc
from stcln.data.readers.mtlcc_geotiff import MtlccGeotiff
from stcln.data.readers.pastis import Pastis
from stcln.data.simulate import LAYOUTS, archive, simulate, spectra
from stcln.data.simulate.canopy import TABLE
from stcln.data.simulate.crops import MTLCC, NAMES, PASTIS
from stcln.data.simulate.fields import crops, region
from stcln.data.simulate.phenology import develop
from stcln.data.simulate.radar import Orbit
from stcln.data.simulate.scene import Season
from stcln.data.simulate.weather import weather
from stcln.data.store import SeasonStore
from stcln.data.tile import ORBITS
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.storage import digest
from stcln.study import Dataset, Study

SEED = 3407
SEASONS = ("2018", "2019")
MONTHS = range(4, 9)

# Median NDVI, April to August 2019, in Flanders: real Sentinel-2 L2A with the parcel register's crops,
# median over a crop's pixels with SCL 4 or 5, over the dates on which more than 70 % of the scene is SCL 4 or 5.
REAL = {
    "meadow": (0.88, 0.83, 0.81, 0.67, 0.76),
    "winter_wheat": (0.88, 0.89, 0.83, 0.27, 0.17),
    "winter_barley": (0.88, 0.89, 0.64, 0.17, 0.18),
    "maize": (0.83, 0.51, 0.48, 0.66, 0.83),
    "sugar_beet": (0.37, 0.26, 0.65, 0.78, 0.83),
    "potatoe": (0.37, 0.22, 0.82, 0.80, 0.59),
}
# Mean over April to September of the absolute difference of these medians between the real 2018 and 2019, for the crops
# that have more than 80 pixels in both.
APART = {"meadow": 0.136, "maize": 0.156}


def curves(path: Path) -> dict[str, dict[int, float]]:
    """Median NDVI of a cube's own year by crop and month, as the constants above were made."""
    with xr.open_dataset(path, mask_and_scale=False, engine="netcdf4") as cube:
        red, near = (cube[name].values.astype(float) for name in ("B04", "B08"))
        clear = np.isin(cube.SCL.values, (4, 5))
        time = cube.time.values
        kinds, values = cube.crop_type.attrs["flag_meanings"].split(), cube.crop_type.attrs["flag_values"]
        labels, year = cube.crop_type.values, int(cube.attrs["season"])
    ndvi = (near - red) / np.maximum(near + red, 1)
    months = time.astype("datetime64[M]").astype(int) % 12 + 1
    whole = (clear.mean((1, 2)) > 0.7) & (time.astype("datetime64[Y]").astype(int) + 1970 == year)
    found: dict[str, dict[int, float]] = {}
    for value, kind in zip(values, kinds, strict=True):
        crop = clear & (labels == value)
        for month in range(1, 13):
            dates = [t for t in np.flatnonzero(whole & (months == month)) if crop[t].any()]
            if dates:
                found.setdefault(kind, {})[month] = float(np.median([np.median(ndvi[t][crop[t]]) for t in dates]))
    return found


def apart(one: dict[int, float], other: dict[int, float]) -> float:
    return float(np.mean([abs(one[m] - other[m]) for m in range(4, 10) if m in one and m in other]))


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both seasons as cubes with a date every five days, so that each month has clear ones."""
    root = tmp_path_factory.mktemp("cubes")
    study = yaml.safe_load((Path(__file__).parents[2] / "studies/demo.yaml").read_text())
    study["dataset"] = {"source": "simulated", "layout": "cube", "season_start": "09-01"}
    study["simulation"] = {"tiles": 48, "size": 24, "dates": 85}
    simulate(root, Study.model_validate(study), SEASONS, Silent())
    return {season: root / f"simulated_{season}.nc" for season in SEASONS}


@pytest.mark.parametrize("crop", REAL)
def test_median_ndvi_is_near_the_real_one(cubes: dict[str, Path], crop: str) -> None:
    found = curves(cubes["2019"])[crop]
    assert [found[month] for month in MONTHS] == pytest.approx(REAL[crop], abs=0.15)


@pytest.mark.parametrize("crop", APART)
def test_two_seasons_differ_as_much_as_the_real_ones(cubes: dict[str, Path], crop: str) -> None:
    one, other = (curves(cubes[season])[crop] for season in SEASONS)
    assert 0.5 < apart(one, other) / APART[crop] < 2


def test_the_real_seasons_differ_as_stated(shared: Path) -> None:
    one, other = (curves(shared / f"real/cubes/flanders_{season}.nc") for season in SEASONS)
    for crop, known in APART.items():
        assert apart(one[crop], other[crop]) == pytest.approx(known, abs=0.03)


def test_drought_browns_the_meadow_of_2018_only(cubes: dict[str, Path]) -> None:
    one, other = (curves(cubes[season])["meadow"] for season in SEASONS)
    assert one[4] == pytest.approx(other[4], abs=0.08)
    assert one[8] < other[8] - 0.15


def test_the_table_of_canopies_is_what_the_radiative_transfer_model_gives() -> None:
    pytest.importorskip("prosail", reason="prosail is not installed: the committed table is not computed again")
    assert np.abs(np.array(TABLE) - np.array(spectra.table())).max() <= 1


def small(tmp_path: Path, layout: str, seasons: tuple[str, ...] = SEASONS, tiles: int = 5) -> Path:
    target = tmp_path / f"{layout}-{'-'.join(seasons)}"
    archive(target, layout, seasons, tiles, 24, SEED, Silent())
    return target


def recorded(season: str, layout: str, start: date) -> Season:
    return Season(region(SEED, 5, 24, apart=layout != "cube"), SEED, int(season), start, 30)


def test_the_mtlcc_reader_reads_what_was_recorded(tmp_path: Path) -> None:
    root = small(tmp_path, "mtlcc")
    reader = Mtlcc(root, Dataset(source="simulated", layout="mtlcc"), "2019")
    season = recorded("2019", "mtlcc", date(2019, 1, 1))
    assert list(reader.ids) == ["1", "2", "3", "4", "5"]
    lengths = set()
    for place in season.ground.places:
        tile, view = reader.read(str(place.number)), season.view(place)
        whole = view.seen.all((1, 2))
        lengths.add(len(tile.dates))
        assert (tile.dates == view.dates[whole]).all()
        for band in spectra.FINE:
            want = np.rint(view.toa[whole, spectra.BANDS.index(band)] * 1e4)
            assert (tile.reflectance[:, reader.bands.index(band)] == want).all()
        named = np.array(reader.classes)[tile.labels]
        assert (named == np.array(NAMES)[view.crop]).all()
    assert len(lengths) > 1  # some tiles lie beyond a swath's edge: shorter series, padded


def test_mtlcc_tiles_keep_place_and_split_between_seasons(tmp_path: Path) -> None:
    root = small(tmp_path, "mtlcc")
    one, other = (Mtlcc(root, Dataset(source="simulated", layout="mtlcc"), season) for season in SEASONS)
    assert list(one.ids) == list(other.ids)
    rotated = 0
    for name in one.ids:
        a, b = one.read(name), other.read(name)
        assert (a.split, a.transform, a.crs) == (b.split, b.transform, b.crs)
        assert ("eval" in a.split) != ("train_fold0" in a.split or "test_fold0" in a.split)
        same = a.labels == b.labels
        assert same[a.labels == one.classes.index("meadow")].all()
        rotated += int((~same).sum())
    assert rotated > 500


def test_the_pastis_reader_reads_what_was_recorded(tmp_path: Path) -> None:
    root = small(tmp_path, "pastis")
    reader = Pastis(root, Dataset(source="simulated", layout="pastis", season_start="09-01"), "2018")
    season = recorded("2018", "pastis", date(2017, 9, 1))
    assert list(reader.ids) == [str(180_000 + n) for n in range(1, 6)]
    for place in season.ground.places:
        tile, view = reader.read(str(180_000 + place.number)), season.view(place)
        assert (tile.dates == view.dates).all()
        assert tile.split == f"fold_{place.fold + 1}"
        assert (tile.valid == view.seen).all()
        near = np.rint(view.surface[:, spectra.BANDS.index("B08")] * 1e4)
        assert (tile.reflectance[:, reader.bands.index("B08")] == near)[view.seen].all()
        assert (tile.labels == np.array(PASTIS)[view.crop]).all()


def test_both_layouts_of_mtlcc_hold_the_same_tiles(tmp_path: Path) -> None:
    records = Mtlcc(small(tmp_path, "mtlcc"), Dataset(source="simulated", layout="mtlcc"), "2019")
    dataset = Dataset(source="simulated", layout="mtlcc-geotiff")
    images = MtlccGeotiff(small(tmp_path, "mtlcc-geotiff"), dataset, "2019")
    assert (images.ids, images.bands, images.classes) == (records.ids, records.bands, records.classes)
    for name in records.ids:
        one, other = records.read(name), images.read(name)
        assert (one.split, one.crs, one.transform) == (other.split, other.crs, other.transform)
        for part in ("dates", "reflectance", "valid", "labels"):
            assert np.array_equal(getattr(one, part), getattr(other, part)), (name, part)


def test_the_pastis_reader_reads_the_radar_that_was_recorded(tmp_path: Path) -> None:
    root = small(tmp_path, "pastis-r", ("2018",))
    reader = Pastis(root, Dataset(source="simulated", layout="pastis", season_start="09-01"), "2018")
    season = recorded("2018", "pastis", date(2017, 9, 1))
    for orbit in ORBITS:
        record = Orbit(season, orbit)
        for place in season.ground.places:
            radar = reader.read(str(180_000 + place.number)).radar[orbit]
            assert np.array_equal(radar.dates, record.dates)
            assert np.array_equal(radar.values, np.rint(record.view(place) * 100))


def test_radar_is_plain_pastis_with_more_beside_it(tmp_path: Path) -> None:
    plain, more = small(tmp_path, "pastis", ("2018",)), small(tmp_path, "pastis-r", ("2018",))
    assert all(digest(path) == digest(more / path.relative_to(plain)) for path in plain.rglob("*.npy"))


def test_leaves_lift_the_ratio_of_radar_and_rain_its_backscatter() -> None:
    """As Sentinel-1 sees cereals: VH/VV rises by some dB from bare soil to full canopy (Vreugdenhil et al., 2018)."""
    ground, ratios = region(SEED, 12, 24, apart=True), {}
    season = Season(ground, SEED, 2019, date(2018, 9, 1), 30)
    record = Orbit(season, "S1A")
    views = {place: record.view(place) for place in ground.places}
    days, maize = record.dates.astype("datetime64[M]").astype(int) % 12 + 1, NAMES.index("maize")
    for month in (5, 8):
        found = [v[days == month, 2][:, season.view(place).crop == maize].ravel() for place, v in views.items()]
        ratios[month] = float(np.median(np.concatenate(found)))
    assert ratios[8] - ratios[5] > 1.5
    bare = [v[:, 0].mean((1, 2)) for v in views.values()]
    winter = np.isin(days, (11, 12, 1, 2))
    assert np.corrcoef(np.mean(bare, axis=0)[winter], record.wet[winter])[0, 1] > 0.8


def test_the_cube_reader_reads_what_was_recorded(tmp_path: Path) -> None:
    root = small(tmp_path, "cube", tiles=4)
    reader = Cubes(root, Dataset(source="simulated", layout="cube", season_start="09-01", tile=24), "2018")
    season = Season(region(SEED, 4, 24, apart=False), SEED, 2018, date(2017, 9, 1), 30)
    assert len(reader.ids) == 4
    for name, place in zip(reader.ids, season.ground.places, strict=True):
        tile, view = reader.read(name), season.view(place)
        at = np.isin(tile.dates, view.dates)
        near = np.rint(view.surface[:, spectra.BANDS.index("B08")] * 1e4)
        assert (tile.reflectance[at][:, reader.bands.index("B08")] == near)[view.seen].all()
        assert not tile.valid[at][view.opacity > 0.5].any()
        assert tile.valid[at][(view.opacity == 0) & (view.shadow == 0) & view.seen].all()
        named = np.array([name.replace("_", " ") for name in reader.classes])[tile.labels]
        assert (named == np.array(NAMES)[view.crop]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_season_is_the_same_with_and_without_the_other(tmp_path: Path, layout: str) -> None:
    both, alone = small(tmp_path, layout), small(tmp_path, layout, ("2019",))
    shared_by_all = {"dataset.ini", "metadata.geojson", *(f"NORM_{name}_patch.json" for name in ("S2", "S1A", "S1D"))}
    files = [path for path in alone.rglob("*") if path.is_file() and path.name not in shared_by_all]
    assert files
    for path in files:
        assert digest(path) == digest(both / path.relative_to(alone))


def test_another_seed_is_another_region(tmp_path: Path) -> None:
    assert not np.array_equal(region(1, 6, 24, True).fields, region(2, 6, 24, True).fields)
    assert not np.array_equal(weather(1, 2018).temperature, weather(2, 2018).temperature)


def test_crops_are_many_uneven_and_spread_over_all_splits() -> None:
    ground = region(SEED, 36, 24, apart=True)
    for year in (2018, 2019):
        mix = np.bincount(crops(ground, SEED, year)[1:], minlength=len(NAMES)) / ground.count
        assert (mix > 0.02).all()
        assert mix.max() > 4 * mix.min()
    assert len(NAMES) == len(MTLCC) == len(PASTIS) >= 9


def test_no_field_lies_in_two_splits() -> None:
    ground = region(SEED, 36, 24, apart=True)
    held: dict[int, set[int]] = {}
    for place in ground.places:
        window = ground.fields[place.row : place.row + 24, place.col : place.col + 24]
        for field in set(np.unique(window).tolist()) - {0}:
            held.setdefault(field, set()).add(place.fold)
    assert sum(len(folds) > 1 for folds in held.values()) == 0


def test_clouds_and_shadows_are_connected_shapes() -> None:
    season = recorded("2019", "mtlcc", date(2019, 1, 1))
    for sky in (season.opacity, season.shadow):
        mask = sky > 0.3
        edges = (mask[:, 1:] != mask[:, :-1]).sum() + (mask[:, :, 1:] != mask[:, :, :-1]).sum()
        assert mask.any()
        assert edges < mask.sum()  # scattered pixels would have up to four edges each


def test_growth_follows_the_warmth_of_the_year() -> None:
    ground = region(SEED, 12, 24, apart=True)
    wheat = np.flatnonzero(crops(ground, SEED, 2019) == NAMES.index("winter wheat"))
    usual = weather(SEED, 2019)
    summer = slice(usual.day(date(2019, 5, 1)), usual.day(date(2019, 10, 1)))
    ripe = []
    for climate in (usual, replace(usual, temperature=usual.temperature + 2)):
        state = develop(ground, SEED, 2019, climate)
        ripe.append((state.yellow > state.green)[wheat, summer].argmax(1))
    assert (ripe[0] - ripe[1] > 10).all()  # days


def test_the_demo_region_is_made_in_seconds(tmp_path: Path) -> None:
    before = time.process_time()
    small(tmp_path, "mtlcc", tiles=36)
    assert time.process_time() - before < 20  # 4 s on an idle core


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    for layout, seasons, size, words in (
        ("mtlcc", ("2018",), 25, "no multiple of 6"),
        ("none", ("2018",), 24, "is no layout"),
        ("mtlcc", ("18",), 24, "not a year"),
        ("mtlcc", ("2018",), 0, "give numbers"),
    ):
        with pytest.raises(BadInput, match=words):
            archive(tmp_path / "new", layout, seasons, 4, size, SEED, Silent())
        assert not (tmp_path / "new").exists()
    with pytest.raises(BadInput, match="exists already"):
        archive(tmp_path, "mtlcc", ("2018",), 4, 24, SEED, Silent())


def test_a_simulated_archive_is_called_so_in_a_study_that_takes_it_from_elsewhere(tmp_path: Path) -> None:
    archive(tmp_path / "a", "mtlcc", ["2018"], 4, 12, 1, Silent())
    (tmp_path / "w").mkdir()
    for source, called in (("../a", True), ("../b", False)):
        if not called:
            (tmp_path / "a").rename(tmp_path / "b")
            (tmp_path / "b/SIMULATED.txt").unlink()
        dataset = {"source": source, "layout": "mtlcc", "ignore": ["unknown"]}
        changed = {"dataset": dataset, "cells": {**STUDY["cells"], "season": ["2018"]}}
        changed["pretrain"] = {**STUDY["pretrain"], "seasons": ["2018"]}
        (tmp_path / "w/params.yaml").write_text(yaml.safe_dump(STUDY | changed))
        for verb in (["fetch"], ["prepare", "--season", "2018"]):
            run_verb([*verb, "--workspace", str(tmp_path / "w")], Silent())
        assert SeasonStore.open(tmp_path / "w/data/seasons/2018.zarr").simulated is called
