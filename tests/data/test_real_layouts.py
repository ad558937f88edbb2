"""The three layouts of the same real ground, read through prepare, agree; and the numbers are those of crops."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stcln.data.lengths import choose
from stcln.data.readers import cube
from stcln.data.splits import ROLES, check_disjoint, select
from stcln.data.store import SeasonStore
from stcln.events import Silent
from stcln.storage import digest, read_json
from stcln.study import Length
from stcln.workspace import Workspace

Stores = dict[tuple[str, str], SeasonStore]
GENUINE = "real/pastis_genuine/metadata.geojson"
NDVI_2019 = {  # real/README.md; SCL 4 or 5
    "meadow": {2: 0.88, 3: 0.86, 4: 0.88, 5: 0.83, 6: 0.81, 7: 0.67, 8: 0.76, 10: 0.86, 11: 0.83},
    "winter_wheat": {2: 0.57, 3: 0.72, 4: 0.88, 5: 0.89, 6: 0.83, 7: 0.27, 8: 0.17, 10: 0.88, 11: 0.87},
    "maize": {2: 0.77, 3: 0.73, 4: 0.83, 5: 0.51, 6: 0.48, 7: 0.66, 8: 0.83, 10: 0.62, 11: 0.57},
    "sugar_beet": {2: 0.26, 3: 0.36, 4: 0.37, 5: 0.26, 6: 0.65, 7: 0.78, 8: 0.83, 10: 0.87, 11: 0.55},
    "potato": {2: 0.30, 3: 0.28, 4: 0.37, 5: 0.22, 6: 0.82, 7: 0.80, 8: 0.59, 10: 0.16, 11: 0.30},
}


def pixels(shared: Path, season: str, store: SeasonStore, tile: int) -> xr.Dataset:
    """The cube's part under a tile, on the tile's dates."""
    a, _, c, _, e, f = store.transform(tile)
    H, W = store.size
    data = xr.open_dataset(shared / f"real/cubes/flanders_{season}.nc", engine="netcdf4")
    ground = data.sel(x=slice(c, c + a * W), y=slice(f, f + e * H))
    days = ground.time.values.astype("datetime64[D]")
    return ground.isel(time=np.isin(days, store.dates(tile)))


@pytest.mark.parametrize("season", ["2018", "2019"])
@pytest.mark.parametrize("layout", ["cubes", "mtlcc", "pastis"])
def test_every_tile_holds_the_pixels_of_the_cube_at_its_place_and_dates(
    layout: str, season: str, shared: Path, stores: Stores
) -> None:
    store = stores[layout, season]
    assert store.crs == "EPSG:32631" and not store.simulated
    for tile in range(len(store)):
        ground, (reflectance, _, _) = pixels(shared, season, store, tile), store.read(tile)
        assert np.array_equal(ground.time.values.astype("datetime64[D]"), store.dates(tile))
        for band in (name for name in store.bands if name in ground):
            assert np.array_equal(reflectance[:, store.bands.index(band)], ground[band].values), (layout, band)


def test_the_classes_of_one_ground_agree_between_the_layouts(shared: Path, stores: Stores) -> None:
    names = {"cubes": ("meadow", "maize"), "mtlcc": ("meadow", "maize"), "pastis": ("Meadow", "Corn")}
    for (layout, season), store in stores.items():
        for tile in range(len(store)):
            truth, labels = pixels(shared, season, store, tile).crop_type.values, store.read(tile)[2]
            for raw, name in zip((1, 3), names[layout], strict=True):
                assert np.array_equal(labels == store.classes.index(name), truth == raw), (layout, season, name)


def test_a_cube_is_valid_where_its_scene_classes_are_usable(shared: Path, stores: Stores) -> None:
    store = stores["cubes", "2019"]
    for tile in range(len(store)):
        scl = pixels(shared, "2019", store, tile).SCL.values
        assert np.array_equal(store.read(tile)[1], np.isin(scl, [4, 5, 6, 7]))


def test_the_seasons_of_one_tree_are_told_apart(stores: Stores) -> None:
    assert stores["pastis", "2018"].ids == ["90181", "90182", "90183", "90184"]
    assert stores["pastis", "2019"].ids == ["90191", "90192"]
    assert stores["mtlcc", "2018"].dates(0)[0] == np.datetime64("2018-01-11")  # dates/year says 2017


def test_listed_tiles_that_do_not_exist_are_named(real: dict[str, Workspace]) -> None:
    found = read_json(real["mtlcc"].season("2018") / "validation.json")
    assert found["absent"]["listed in tileids, no record on disk"] == ["1901", "1902", "9999"]
    assert (found["tiles"], found["absent_ids"], found["rejected_tiles"]) == (4, 3, 0)
    assert found["listed_ids"] == 7 and "record on disk, in no list" in found["unlisted"]


def test_validation_counts_what_the_store_holds(real: dict[str, Workspace], stores: Stores) -> None:
    store, found = stores["cubes", "2018"], read_json(real["cubes"].season("2018") / "validation.json")
    labels = np.stack([store.read(tile)[2] for tile in range(len(store))])
    counted = {k: v for split in found["pixels_per_class"].values() for k, v in split.items()}
    assert sum(v for split in found["pixels_per_class"].values() for v in split.values()) == labels.size
    assert set(counted) == {store.classes[k] for k in np.unique(labels)}
    valid = np.stack([store.read(tile)[1] for tile in range(len(store))])
    assert found["invalid_share"] == pytest.approx(1 - valid.mean())
    assert sum(found["dates_per_month"].values()) == 114 and found["dates_per_month"]["2017-09"] == 6
    assert set(found["reflectance_range"]) == set(store.bands)
    assert found["splits"] == {"train": 8, "validation": 4, "test": 4}


def test_preparing_again_gives_the_same_bytes(real: dict[str, Workspace]) -> None:
    from stcln.data.prepare import prepare

    for workspace in real.values():
        before = digest(workspace.season("2019"))
        prepare(workspace, "2019", Silent())
        assert digest(workspace.season("2019")) == before


def test_no_date_after_a_cut_is_chosen(stores: Stores) -> None:
    for (_, season), store in stores.items():
        for tile in range(len(store)):
            dates = store.dates(tile)
            kept = dates[choose(dates, Length(until="06-30", dates=16), season)]
            assert kept.max() <= np.datetime64(f"{season}-06-30") < dates.max()


def test_no_test_pixel_of_a_ready_study_plays_another_role(real: dict[str, Workspace], stores: Stores) -> None:
    for layout, workspace in real.items():
        check_disjoint(workspace.study, [stores[layout, season] for season in ("2018", "2019")])


def test_every_split_of_the_small_cubes_has_tiles_and_the_large_classes(
    real: dict[str, Workspace], stores: Stores
) -> None:
    for season, large in (("2018", {"meadow", "maize"}), ("2019", {"meadow", "winter_wheat"})):
        store = stores["cubes", season]
        for role in ROLES:
            labels = [store.read(s.tile)[2] for s in select(store, real["cubes"].study, role, Silent())]
            assert large <= {store.classes[k] for k in np.unique(labels)}, (season, role)


def test_median_ndvi_is_that_of_the_published_table(
    real: dict[str, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stcln.data.prepare import prepare

    def medians() -> dict[str, dict[int, float]]:
        found = read_json(real["cubes"].season("2019") / "validation.json")["ndvi"]
        return {name: {int(month): value for month, value in months.items()} for name, months in found.items()}

    usual = medians()
    for name, months in NDVI_2019.items():
        assert all(abs(usual[name][m] - v) < 0.12 for m, v in months.items() if 4 <= m <= 8), name
    monkeypatch.setattr(cube, "USABLE", (4, 5))
    prepare(real["cubes"], "2019", Silent())
    strict = medians()
    monkeypatch.undo()
    prepare(real["cubes"], "2019", Silent())
    for name, months in NDVI_2019.items():
        assert set(strict[name]) == set(months)
        assert {m: v for m, v in months.items() if abs(strict[name][m] - v) > 0.0065} == {}, (name, str(strict[name]))
