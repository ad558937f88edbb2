"""Scores: by hand, by truth alone, on every season; and what the files of a cell hold."""

import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from tiny_study import restudy, synthetic_tile, write_season

from stcln.data.series import Series
from stcln.data.tile import VOID
from stcln.errors import BadInput
from stcln.evaluate import evaluate
from stcln.evaluate.maps import tile_maps
from stcln.evaluate.scores import Scores
from stcln.events import Silent
from stcln.storage import digest, read_json
from stcln.training.finetune import finetune
from stcln.workspace import Workspace

CLASSES = ("unknown", "wheat", "maize", "meadow", "rye")
# Eight counted pixels: wheat 4 (3 right, 1 as maize), maize 3 (1 right, 1 as wheat, 1 as unknown), meadow 1 (right).
TRUTH = np.array([[1, 1, 1, 1, 2], [2, 2, 3, 0, VOID]], np.uint8)
PREDICTION = np.array([[1, 1, 1, 2, 2], [1, 0, 3, 1, 2]], np.uint8)
CELL = ("2016", "d6", "scratch")


def counted(prediction: np.ndarray = PREDICTION, drop: bool = False) -> Scores:
    scores = Scores(CLASSES, (0,), drop=drop)
    scores.add(TRUTH, prediction.astype(np.uint8))
    return scores


def scored(drop: bool = False) -> dict:
    return counted(drop=drop).result()


def test_scores_are_those_computed_by_hand():
    found = scored()
    assert found["oa"] == pytest.approx(5 / 8)
    assert found["per_class"]["wheat"] == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "iou": 3 / 5, "support": 4}, abs=1e-6
    )
    assert found["per_class"]["maize"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "iou": 1 / 4, "support": 3}, abs=1e-6
    )
    assert found["miou"] == pytest.approx((3 / 5 + 1 / 4 + 1) / 3, abs=1e-6)
    assert found["mf1"] == pytest.approx((3 / 4 + 2 / 5 + 1) / 3, abs=1e-6)
    chance = (4 * 4 + 3 * 2 + 1 * 1) / 64  # truth x prediction, by class
    assert found["kappa"] == pytest.approx((5 / 8 - chance) / (1 - chance), abs=1e-6)
    assert found["confusion"] == [[0] * 5, [0, 3, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]


def test_a_real_class_predicted_as_an_ignored_one_is_wrong_and_as_published_is_dropped():
    assert scored()["oa"] == pytest.approx(5 / 8)
    published = scored(drop=True)
    assert published["oa"] == pytest.approx(5 / 7, abs=1e-6)
    assert published["per_class"]["maize"]["recall"] == pytest.approx(1 / 2)
    assert published["miou"] == pytest.approx((3 / 5 + 1 / 3 + 1) / 3, abs=1e-6)


def test_void_and_ignored_truth_count_nowhere_whatever_is_predicted():
    other = np.where((TRUTH == 0) | (TRUTH == VOID), 3, PREDICTION).astype(np.uint8)
    scores = Scores(CLASSES, (0,))
    scores.add(TRUTH, other)
    assert scores.result() == scored() and scores.pixels == 8


def test_means_are_over_the_classes_of_the_truth_whatever_stray_pixels_are_predicted():
    stray = counted(np.where(PREDICTION == 0, 4, PREDICTION))
    assert set(stray.result()["per_class"]) == set(scored()["per_class"]) == {"wheat", "maize", "meadow"}
    assert stray.result()["miou"] == pytest.approx((3 / 5 + 1 / 4 + 1) / 3, abs=1e-6) == scored()["miou"]
    assert stray.result()["mf1"] == scored()["mf1"]
    assert stray.published()["miou"] == pytest.approx((3 / 5 + 1 / 4 + 1 + 0) / 4, abs=1e-6), "as the paper's code"


def test_a_class_of_the_truth_stays_in_the_means_when_every_pixel_of_it_is_dropped():
    found = counted(np.where(TRUTH == 3, 0, PREDICTION), drop=True)
    assert found.result()["miou"] == pytest.approx((3 / 5 + 1 / 3 + 0) / 3, abs=1e-6)
    assert found.published()["miou"] == pytest.approx((3 / 5 + 1 / 3) / 2, abs=1e-6)


def test_the_majority_is_the_best_constant_answer_and_a_share_counts_pixels_of_named_classes():
    found = counted(drop=True)
    assert found.majority() == pytest.approx(4 / 8), "of all eight pixels of the truth, also of dropped ones"
    assert found.share({"maize", "meadow", "rye"}) == pytest.approx(4 / 8)


def test_tiles_add_up():
    scores = Scores(CLASSES, (0,))
    for row in range(2):
        scores.add(TRUTH[row : row + 1], PREDICTION[row : row + 1])
    assert scores.result() == scored()


def test_where_nothing_is_left_to_count_scores_are_zero():
    scores = Scores(CLASSES, (0,), drop=True)
    scores.add(TRUTH, np.zeros_like(TRUTH))
    assert (scores.result()["oa"], scores.result()["miou"]) == (0.0, 0.0)


def test_a_picture_takes_red_green_and_blue_by_name_and_only_valid_dates():
    bands, values = ("B02", "B03", "B04"), np.zeros((2, 3, 4, 4), np.int16)
    values[:, 2, :, 2:] = 4000  # red on the right
    values[1] = 9000  # a cloud
    valid = np.ones((2, 4, 4), bool)
    valid[1] = False
    dates, labels = np.array(["2018-05-01", "2018-06-01"], "datetime64[D]"), np.ones((4, 4), np.uint8)
    one = Series("a", "2018", date(2018, 1, 1), dates, values, valid, labels)
    maps = tile_maps(one, bands, np.full((2, 4, 4), 0.5, np.float32))
    assert maps["2018/a/rgb"][0].tolist() == [[0, 0, 0], [0, 0, 0], [255, 0, 0], [255, 0, 0]]
    assert (maps["2018/a/confidence"] == 50).all()


def test_a_cell_is_scored_on_its_own_season_and_on_every_other(tiny_trained: Workspace):
    home = tiny_trained.cell(*CELL)
    assert sorted(path.name for path in home.iterdir()) == ["lineage.json", "maps.npz", "scores.json"]
    scores = read_json(home / "scores.json")
    assert scores["simulated"] is True and scores["classes"] == ["unknown", "wheat", "maize", "meadow"]
    assert [entry["seed"] for entry in scores["seeds"]] == [7, 8]
    for entry in scores["seeds"]:
        assert sorted(entry["tests"]) == ["2016", "2017"]
        for season, test in entry["tests"].items():
            truth = np.stack([synthetic_tile(n, season).labels for n in (4, 9)])
            support = {name: int((truth == k).sum()) for k, name in enumerate(scores["classes"]) if k}
            assert np.sum(test["confusion"], 1).tolist() == [0, *support.values()]
            trained = read_json(tiny_trained.finetuned(*CELL) / f"seed-{entry['seed']}/history.json")["labelled"]
            assert test["majority_oa"] == pytest.approx(max(support.values()) / sum(support.values()), abs=1e-6)
            assert test["trained_share"] == 1.0 and set(trained) == set(support)


def test_the_trained_share_leaves_out_classes_without_a_training_label(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, finetune={"epochs": 1, "seeds": 1})
    tiles = [synthetic_tile(n, "2016") for n in range(10)]
    bare = [t if t.split == "test" else replace(t, labels=np.where(t.labels == 2, 1, t.labels)) for t in tiles]
    shutil.rmtree(workspace.season("2016"))
    write_season(workspace.season("2016"), "2016", bare)
    finetune(workspace, *CELL, Silent())
    evaluate(workspace, *CELL, Silent())
    for season, test in read_json(workspace.cell(*CELL) / "scores.json")["seeds"][0]["tests"].items():
        truth = np.stack([synthetic_tile(n, season).labels for n in (4, 9)])
        assert test["trained_share"] == pytest.approx(1 - (truth == 2).sum() / (truth != 0).sum(), abs=1e-6)
        assert test["trained_share"] < 1


def test_maps_hold_truth_prediction_confidence_and_picture_of_test_tiles(tiny_trained: Workspace):
    maps = np.load(tiny_trained.cell(*CELL) / "maps.npz")
    assert {key.rsplit("/", 1)[0] for key in maps} == {f"{s}/{t}" for s in ("2016", "2017") for t in ("t04", "t09")}
    np.testing.assert_array_equal(maps["2016/t04/truth"], synthetic_tile(4, "2016").labels)
    assert maps["2016/t04/confidence"].max() <= 100 and maps["2016/t04/rgb"].shape == (8, 8, 3)


@pytest.mark.parametrize("method", [{}, {"statistics": "split", "dates": "redrawn", "test_window": "tile"}])
def test_evaluating_twice_gives_the_same_bytes(tiny_workspace: Workspace, method: dict):
    lengths = {"d6": {"dates": 6, "choose": "random"}, "full": {"choose": "random"}}
    workspace = restudy(tiny_workspace, finetune={"epochs": 1}, method=method, lengths=lengths)
    finetune(workspace, *CELL, Silent())
    digests = []
    for _ in range(2):
        evaluate(workspace, *CELL, Silent())
        digests.append(digest(workspace.cell(*CELL)))
    assert digests[0] == digests[1]


def test_clouds_exclude_no_pixel_from_the_scores(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, finetune={"epochs": 1, "seeds": 1})
    finetune(workspace, *CELL, Silent())
    tiles = [synthetic_tile(n, "2017") for n in range(10)]
    clouded = [replace(t, valid=np.zeros_like(t.valid)) if t.split == "test" else t for t in tiles]
    shutil.rmtree(workspace.season("2017"))
    write_season(workspace.season("2017"), "2017", clouded)
    evaluate(workspace, *CELL, Silent())
    tests = read_json(workspace.cell(*CELL) / "scores.json")["seeds"][0]["tests"]
    assert np.sum(tests["2017"]["confusion"]) == 2 * 62 == np.sum(tests["2016"]["confusion"])


def test_test_tiles_without_a_scored_class_are_refused_and_another_season_without_is_left_out(
    tiny_workspace: Workspace,
):
    workspace = restudy(tiny_workspace, finetune={"epochs": 1, "seeds": 1})
    finetune(workspace, *CELL, Silent())

    def unlabelled(season: str) -> None:
        tiles = [synthetic_tile(n, season) for n in range(10)]
        shutil.rmtree(workspace.season(season))
        write_season(workspace.season(season), season, [replace(t, labels=t.labels * 0) for t in tiles])

    unlabelled("2017")
    evaluate(workspace, *CELL, Silent())
    home = workspace.cell(*CELL)
    assert set(read_json(home / "scores.json")["seeds"][0]["tests"]) == {"2016"}
    assert {name.split("/")[0] for name in np.load(home / "maps.npz").files} == {"2016"}
    shutil.rmtree(home)
    unlabelled("2016")
    with pytest.raises(BadInput, match=r"season 2016, splits\.test: no pixel of a scored class"):
        evaluate(workspace, *CELL, Silent())
    assert not home.exists()


def test_a_cell_that_is_not_trained_is_refused(tiny_workspace: Workspace):
    with pytest.raises(BadInput, match="no model here; run `python -m stcln finetune` for this cell"):
        evaluate(tiny_workspace, *CELL, Silent())
