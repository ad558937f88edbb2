"""What a model and a training are said to cost is what they compute, counted by torch while they do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tiny_study import restudy
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from stcln.evaluate import evaluate
from stcln.events import Silent
from stcln.model.encoder import Layer
from stcln.model.heads import SpatioTemporalAttention
from stcln.storage import read_json
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "d6", "scratch")


@contextmanager
def counting() -> Iterator[list[int]]:
    """A list that holds, once the block has ended, the multiply-adds of all that torch computed within.

    But for the product of a head's two weights, made once a batch, and attention weights that backward makes again.
    """
    found: list[int] = []
    aside = 0

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal aside
        if isinstance(module, SpatioTemporalAttention):
            aside += (3 if module.training else 1) * module.query.in_features**3
        if isinstance(module, Layer) and module.training:
            aside += inputs[0].numel() * inputs[0].shape[1]

    hook = register_module_forward_pre_hook(watch)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        yield found
    hook.remove()
    found.append(counter.get_total_flops() // 2 - aside)


@pytest.mark.parametrize("window", ["same", "tile"])
def test_scores_hold_what_predicting_the_test_tiles_computes(tiny_workspace: Workspace, window: str) -> None:
    workspace = restudy(
        tiny_workspace, pretrain={"window": 4}, finetune={"window": 4, "epochs": 1}, method={"test_window": window}
    )
    finetune(workspace, *CELL, Silent())
    with counting() as computed:
        summary = evaluate(workspace, *CELL, Silent())
    cost = read_json(workspace.cell(*CELL) / "scores.json")["cost"]
    assert cost["km2"] == 2 * 2 * 8 * 8 * 100 / 1e6, "two tiles of two seasons, pixels of 10 m"
    assert computed == [pytest.approx(2 * cost["tile_multiply_adds_per_km2"] * cost["km2"])], "of two models"
    assert float(summary["predict_seconds_per_km2"]) > 0
    if window == "same":  # 3 x 3 windows of 4 pixels on a tile of 8; on a map one every 3 pixels
        on_tile, on_map = 3 * 3 * 4 * 4 / (8 * 8), 4 * 4 / (3 * 3)
        expected = cost["tile_multiply_adds_per_km2"] * on_map / on_tile
        assert cost["map_multiply_adds_per_km2"] == pytest.approx(expected)


def test_a_history_holds_what_the_training_computes(tiny_workspace: Workspace) -> None:
    """But for the gradient of the images, which nobody asks for."""
    workspace = restudy(tiny_workspace, finetune={"seeds": 1})
    with counting() as computed:
        finetune(workspace, *CELL, Silent())
    found = read_json(workspace.finetuned(*CELL) / "seed-7/history.json")["multiply_adds"]
    images = 6 * 8 * 8 * 9 * 4 * 16  # of a window: 6 dates of 8 x 8 pixels, 4 bands, a stem of 16
    assert computed == [found - 3 * 6 * images], "in 3 epochs of 6 windows"


def test_the_history_of_pre_training_holds_what_it_computes(tiny_workspace: Workspace) -> None:
    """And then one window more, the sample that is rebuilt."""
    workspace = restudy(tiny_workspace, pretrain={"epochs": 3, "mask": {"vegetation": 0.0}})
    with counting() as computed:
        pretrain(workspace, Silent())
    history = read_json(workspace.pretrained / "history.json")
    assert history["windows"] == 5 and len(history["held_out"]) == 1
    assert history["multiply_adds"] % (3 * (3 * 5 + 1)) == 0
    one = history["multiply_adds"] // (3 * (3 * 5 + 1))
    assert computed == [history["multiply_adds"] + one]


def test_a_random_length_counts_the_dates_that_are_drawn(tiny_workspace: Workspace) -> None:
    finetune(restudy(tiny_workspace, finetune={"seeds": 1}), *CELL, Silent())
    path = tiny_workspace.finetuned(*CELL) / "seed-7/history.json"
    even = read_json(path)["multiply_adds"]
    finetune(restudy(tiny_workspace, lengths={"d6": {"dates": 6, "choose": "random"}}), *CELL, Silent())
    assert read_json(path)["multiply_adds"] == even
