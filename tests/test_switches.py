"""What a switch of `method` changes, as a number, where it acts."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_study import restudy

from stcln import evaluate as module
from stcln.data.samples import read_series
from stcln.data.splits import Selection
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.compute import pick
from stcln.storage import read_json
from stcln.study import Compute, Length, Method, load_study
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "d6", "scratch")


def test_clouds_seen_makes_every_pixel_valid(tiny_trained: Workspace) -> None:
    store, tile = SeasonStore.open(tiny_trained.season("2016")), Selection(4, 0, 0, 8)
    ours, published = (read_series(store, tile, Length(), Method(clouds=way)).valid for way in ("masked", "seen"))
    assert ours.size - ours.sum() == 8 * 4, "the upper half of one date is cloudy"
    assert published.all() and published.shape == ours.shape


def test_vegetation_normalised_masks_by_the_ndvi_of_normalised_bands(tiny_workspace: Workspace) -> None:
    masked = []
    for vegetation in ("reflectance", "normalised"):
        changed = {"mask": {"vegetation": 0.2}, "epochs": 1}
        workspace = restudy(tiny_workspace, method={"vegetation": vegetation}, pretrain=changed)
        masked.append(pretrain(workspace, Silent())["masked_pixels"])
    assert masked[0] != masked[1] and min(masked) > 0


@pytest.mark.parametrize(("excluded", "counted"), [("truth", 64 - 2), ("truth-and-predicted", 64 / 2)])
def test_pixels_predicted_as_an_ignored_class_are_dropped_only_as_published(
    tiny_trained: Workspace, monkeypatch: pytest.MonkeyPatch, excluded: str, counted: int
) -> None:
    """The left half, with both pixels of unknown truth, is predicted as unknown."""
    answer = np.zeros((4, 8, 8), np.float32)
    answer[0, :, :4] = answer[1, :, 4:] = 1
    monkeypatch.setattr(module, "predict_tile", lambda *_: answer)
    device, store = pick(Compute(threads=1)), SeasonStore.open(tiny_trained.season("2016"))
    models = [
        replace(m, card=m.card.model_copy(update={"method": m.card.method | {"excluded": excluded}}))
        for m in module._models(tiny_trained.finetuned(*CELL), device)
    ]
    trial = module._Trial(store, [Selection(4, 0, 0, 8)], models, device, module.Spent())
    list(trial.run())
    assert np.sum(trial.results()[0]["confusion"]) == counted


def test_evaluation_counts_positions_from_the_models_day_0_whatever_the_stores(tiny_trained: Workspace) -> None:
    device, store = pick(Compute(threads=1)), SeasonStore.open(tiny_trained.season("2016"))
    (model, _) = module._models(tiny_trained.finetuned(*CELL), device)
    series = read_series(store, Selection(4, 0, 0, 8), model.length, model.method)
    shifted = replace(series, start=date(2015, 9, 1))
    assert (shifted.positions(model.method) != series.positions(model.method)).all()
    assert np.array_equal(model.predict(shifted, device), model.predict(series, device))


def test_the_card_keeps_the_day_0_of_the_store_that_was_trained_on(tiny_workspace: Workspace) -> None:
    pretrain(restudy(tiny_workspace, dataset={"season_start": "09-01"}), Silent())
    card = read_json(tiny_workspace.pretrained / "card.json")
    assert card["season_start"] == "01-01"


def test_redrawn_dates_are_refused_where_a_length_in_use_is_even(tiny_workspace: Workspace) -> None:
    lengths = {"d6": {"dates": 6, "choose": "random"}}
    workspace = restudy(tiny_workspace, method={"dates": "redrawn"}, lengths=lengths)
    with pytest.raises(BadInput, match=r"method.dates: nothing is redrawn of lengths \['full'\], give them `choose"):
        load_study(workspace.root / "params.yaml")
    assert restudy(tiny_workspace, lengths={"full": {"choose": "random"}, "unused": {"dates": 3}}).study


@pytest.mark.parametrize("name", ["pastis", "mtlcc"])
def test_the_lists_of_a_published_study_are_the_published_ones(shared: Path, name: str) -> None:
    study = yaml.safe_load((Path(__file__).parents[1] / f"studies/{name}.yaml").read_text())["splits"]
    published = read_json(shared / "reference/splits.json")[name]
    if name == "mtlcc":
        assert study["train"]["tiles"] == published["train"] and study["validation"]["tiles"] == published["val"]
        assert study["train"]["per_class"] == study["validation"]["per_class"] == published["tiles_per_class"]["2pct"]
    else:
        for role, listed in (("train", "train_fold1_2pct"), ("validation", "val_fold2")):
            assert study[role]["tiles"] == published[listed]["patches"], role
            assert study[role]["crops"] == published[listed]["crops"], role
