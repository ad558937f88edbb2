"""Fine-tuning of a cell: its labels, its statistics, its seeds, what it starts from and what it writes."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_study import restudy, synthetic_tile, write_season

from stcln.data.store import SeasonStore
from stcln.data.tile import VOID
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.checkpoint import load_classifier, load_encoder
from stcln.storage import digest, read_json
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

SCRATCH = ("2016", "d6", "scratch")


def history(workspace: Workspace, cell: tuple[str, str, str] = SCRATCH, seed: int = 7) -> dict:
    return read_json(workspace.finetuned(*cell) / f"seed-{seed}/history.json")


def test_a_cell_holds_a_model_a_seed_and_the_same_seed_gives_the_same_bytes(tiny_workspace: Workspace):
    finetune(tiny_workspace, *SCRATCH, Silent())
    output = tiny_workspace.finetuned(*SCRATCH)
    assert sorted(path.name for path in output.iterdir()) == ["lineage.json", "seed-7", "seed-8"]
    first, weights = digest(output), [digest(output / f"seed-{n}/weights.safetensors") for n in (7, 8)]
    finetune(tiny_workspace, *SCRATCH, Silent())
    assert digest(output) == first and weights[0] != weights[1]


def test_training_classifies_better_than_the_majority(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, finetune={"epochs": 40, "seeds": 1}, lengths={"d6": {}})
    summary = finetune(workspace, *SCRATCH, Silent())
    assert float(summary["validation"]) > 0.9


def test_a_pretrained_arm_starts_from_the_encoder_and_is_normalised_as_it_was(tiny_workspace: Workspace):
    """The encoder learnt on 2017; the cell is of 2016."""
    workspace = restudy(tiny_workspace, pretrain={"seasons": ["2017"]}, finetune={"epochs": 1, "learning_rate": 1e-12})
    pretrain(workspace, Silent())
    cell = ("2016", "d6", "pretrained")
    finetune(workspace, *cell, Silent())
    network, card = load_classifier(workspace.finetuned(*cell) / "seed-7")
    encoder, source = load_encoder(workspace.pretrained)
    assert card.mean == source.mean and card.std == source.std
    for (name, tuned), first in zip(network.encoder.named_parameters(), encoder.parameters(), strict=True):
        np.testing.assert_allclose(tuned.detach(), first.detach(), atol=1e-9, err_msg=name)


def test_a_scratch_arm_is_normalised_with_its_own_season(tiny_workspace: Workspace):
    finetune(tiny_workspace, *SCRATCH, Silent())
    card = load_classifier(tiny_workspace.finetuned(*SCRATCH) / "seed-7")[1]
    np.testing.assert_allclose(card.mean, SeasonStore.open(tiny_workspace.season("2016")).mean)


def test_as_published_a_split_is_normalised_with_its_own_statistics(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, method={"statistics": "split"})
    finetune(workspace, *SCRATCH, Silent())
    card = load_classifier(workspace.finetuned(*SCRATCH) / "seed-7")[1]
    assert not np.allclose(card.mean, SeasonStore.open(workspace.season("2016")).mean, rtol=1e-5)


def test_an_arm_sees_its_share_of_the_labels_and_no_ignored_class(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, arms={"scratch": {"labels": 0.1}}, finetune={"epochs": 1})
    labels = np.stack([synthetic_tile(n, "2016").labels for n in range(10) if n % 5 < 3])
    expected = {
        name: max(1, round(0.1 * (labels == k).sum())) for k, name in ((1, "wheat"), (2, "maize"), (3, "meadow"))
    }
    summary = finetune(workspace, *SCRATCH, Silent())
    assert history(workspace)["labelled"] == expected
    assert summary["labelled_pixels"] == sum(expected.values())


def test_void_pixels_do_not_move_the_weights(tiny_workspace: Workspace):
    """Void where there was class 0, which is ignored: the same models."""
    finetune(tiny_workspace, *SCRATCH, Silent())
    weights = tiny_workspace.finetuned(*SCRATCH) / "seed-7/weights.safetensors"
    before = digest(weights)
    tiles = [synthetic_tile(n, "2016") for n in range(10)]
    voided = [replace(tile, labels=np.where(tile.labels == 0, VOID, tile.labels).astype(np.uint8)) for tile in tiles]
    shutil.rmtree(tiny_workspace.season("2016"))
    write_season(tiny_workspace.season("2016"), "2016", voided)
    finetune(tiny_workspace, *SCRATCH, Silent())
    assert digest(weights) == before


def test_folds_select_inside_the_label_budget(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, finetune={"folds": 3, "epochs": 1})
    finetune(workspace, *SCRATCH, Silent())
    found = history(workspace)
    assert "1/3 of the labelled training tiles" in found["selection"]
    assert found["windows"] == 4 and found["validation_pixels"] == 2 * 62


def test_random_dates_and_patience_and_index_positions_train(tiny_workspace: Workspace):
    workspace = restudy(
        tiny_workspace, lengths={"d6": {"dates": 6, "choose": "random"}, "full": {"choose": "random"}},
        finetune={"patience": 1, "epochs": 6},
        method={"positions": "index", "padding": "attended", "clouds": "seen", "dates": "redrawn"},
    )  # fmt: skip
    finetune(workspace, *SCRATCH, Silent())
    assert load_classifier(workspace.finetuned(*SCRATCH) / "seed-7")[1].length["choose"] == "random"


def test_a_cell_outside_the_study_is_refused(tiny_workspace: Workspace):
    with pytest.raises(BadInput, match="--arm: 'magic' is not in the study; choose one of scratch, pretrained"):
        finetune(tiny_workspace, "2016", "d6", "magic", Silent())


def test_a_pretrained_arm_without_an_encoder_is_refused(tiny_workspace: Workspace):
    with pytest.raises(BadInput, match="models/pretrained"):
        finetune(tiny_workspace, "2016", "d6", "pretrained", Silent())


def test_an_encoder_of_another_size_is_refused(tiny_workspace: Workspace):
    pretrain(tiny_workspace, Silent())
    workspace = restudy(tiny_workspace, model={"size": "base"})
    with pytest.raises(BadInput, match=r"size tiny with bands .* does not fit size base"):
        finetune(workspace, "2016", "d6", "pretrained", Silent())


def test_training_tiles_without_a_label_are_refused(tiny_workspace: Workspace):
    tiles = [synthetic_tile(n, "2016") for n in range(10)]
    blank = [replace(t, labels=np.full_like(t.labels, VOID)) if t.split == "train" else t for t in tiles]
    shutil.rmtree(tiny_workspace.season("2016"))
    write_season(tiny_workspace.season("2016"), "2016", blank)
    with pytest.raises(BadInput, match=r"splits\.train: no labelled pixel of a scored class"):
        finetune(tiny_workspace, *SCRATCH, Silent())
