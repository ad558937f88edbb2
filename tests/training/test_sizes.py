"""The largest size pre-trains, and is fine-tuned from what was pre-trained."""

from tiny_study import restudy

from stcln.events import Silent
from stcln.model.checkpoint import load_classifier
from stcln.storage import read_json
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2017", "d2", "pretrained")


def test_a_large_model_pre_trains_on_both_seasons_at_once_and_is_fine_tuned(tiny_workspace: Workspace) -> None:
    """Of windows of 4 pixels and two dates, so that it takes seconds on one core."""
    once = {"epochs": 1, "batch": 5, "window": 4}
    workspace = restudy(
        tiny_workspace, model={"size": "large"}, lengths={"d2": {"dates": 2}}, cells={"length": ["d2"]},
        splits={role: {"take": [take], "crops": [[0, 0]]} for role, take in
                (("pretrain", "train"), ("train", "train"), ("validation", "validation"))},
        pretrain={**once, "seasons": ["2016", "2017"], "length": "d2", "mask": {"vegetation": 0.0}},
        finetune={**once, "seeds": 1},
    )  # fmt: skip
    pretrain(workspace, Silent())
    assert read_json(workspace.pretrained / "history.json")["windows"] == 10, "five tiles of each season"
    summary = finetune(workspace, *CELL, Silent())
    network, card = load_classifier(workspace.finetuned(*CELL) / "seed-7")
    assert card.size == "large" and len(network.encoder.layers) == 6 and network.encoder.width == 512
    assert summary["parameters"] == sum(p.numel() for p in network.parameters()) > 20e6
