"""Pre-training learns to fill in what is hidden, counts it exactly, and reads no label."""

import shutil
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from tiny_study import restudy, synthetic_tile, write_season

from stcln.data.loader import Loader
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Silent, Value
from stcln.model.checkpoint import load_encoder
from stcln.storage import digest, read_json
from stcln.training import pretrain as module
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny_workspace: Workspace):
    digests = []
    for seed in (7, 7, 8):
        pretrain(restudy(tiny_workspace, seed=seed), Silent())
        digests.append(digest(tiny_workspace.pretrained / "weights.safetensors"))
        digests.append(digest(tiny_workspace.pretrained / "sample.npz"))
    assert digests[:2] == digests[2:4] and digests[0] != digests[4]


def test_the_output_is_complete_and_the_card_rebuilds_the_encoder(tiny_workspace: Workspace):
    summary = pretrain(tiny_workspace, Silent())
    names = sorted(path.name for path in tiny_workspace.pretrained.iterdir())
    tensors = ["head.safetensors", "weights.safetensors"]
    assert names == sorted(["card.json", "history.json", "lineage.json", "sample.npz", *tensors])
    _, card = load_encoder(tiny_workspace.pretrained)
    store = SeasonStore.open(tiny_workspace.season("2016"))
    assert card.bands == store.bands and card.season == "2016"
    np.testing.assert_allclose(card.mean, store.mean)
    np.testing.assert_allclose(card.std, store.std)
    history = read_json(tiny_workspace.pretrained / "history.json")
    assert history["masked_pixels"] == sum(epoch["masked_pixels"] for epoch in history["epochs"])
    assert history["masked_pixels"] == summary["masked_pixels"] > 0
    assert len(history["held_out"]) == 1 and history["windows"] == 5


def test_masked_pixels_are_counted_exactly_and_never_invalid(
    tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    hidden: list[int] = []
    honest = module.reconstruction_loss

    def watched(predicted: torch.Tensor, images: torch.Tensor, mask: torch.Tensor, *count: int) -> torch.Tensor:
        if torch.is_grad_enabled():
            hidden.append(int(mask.sum()))
            assert not mask[images[:, :, 0] > 5].any()  # clouds are 9000, far above everything seen
        return honest(predicted, images, mask, *count)

    monkeypatch.setattr(module, "reconstruction_loss", watched)
    workspace = restudy(tiny_workspace, pretrain={"mask": {"vegetation": 0.0}})
    summary = pretrain(workspace, Silent())
    assert summary["masked_pixels"] == sum(hidden)


def test_tiles_that_validate_are_never_trained_on(tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    trained: set[str] = set()
    honest = Loader.batch

    def watched(self: Loader, epoch: int, step: int, attempt: int = 0):
        batch = honest(self, epoch, step, attempt)
        trained.update(batch.tiles if self.training else ())
        return batch

    monkeypatch.setattr(Loader, "batch", watched)
    workspace = restudy(tiny_workspace, pretrain={"seasons": ["2016", "2017"]})
    pretrain(workspace, Silent())
    held_out = set(read_json(workspace.pretrained / "history.json")["held_out"])
    assert held_out and not trained & held_out and len(trained) == 5


def test_reconstruction_improves_with_training(tiny_workspace: Workspace):
    mask = {"vegetation": 0.0}
    workspace = restudy(tiny_workspace, pretrain={"epochs": 15, "learning_rate": 3e-3, "mask": mask})
    summary = pretrain(workspace, Silent())
    epochs = read_json(workspace.pretrained / "history.json")["epochs"]
    assert summary["validation"] < 0.6 * epochs[0]["validation"]


def test_a_batch_with_nothing_to_hide_is_drawn_again(tiny_workspace: Workspace):
    """Two of the five tiles are bare soil all season: the vegetation gate is shut for them."""
    tiles = [synthetic_tile(n, "2016") for n in range(10)]
    for number in (0, 1, 2, 5):
        tiles[number].reflectance[:, 3] = tiles[number].reflectance[:, 2]
    shutil.rmtree(tiny_workspace.season("2016"))
    write_season(tiny_workspace.season("2016"), "2016", tiles)
    workspace = restudy(tiny_workspace, pretrain={"batch": 1, "epochs": 3})
    workspace = _with_green_held_out(workspace)
    summary = pretrain(workspace, Silent())
    assert int(summary["redrawn"]) > 0
    epochs = read_json(workspace.pretrained / "history.json")["epochs"]
    assert all(epoch["masked_pixels"] > 0 for epoch in epochs)
    as_published = pretrain(restudy(workspace, method={"empty_mask": "step"}), Silent())
    assert as_published["redrawn"] == 0 and 0 < as_published["masked_pixels"] < summary["masked_pixels"]


def _with_green_held_out(workspace: Workspace) -> Workspace:
    """The workspace with a seed that holds tile t06 or t07 back."""
    for seed in range(50):
        if np.random.default_rng(seed).permutation(6)[0] >= 4:
            return restudy(workspace, seed=seed)
    raise AssertionError


def test_where_nothing_can_be_masked_the_gate_is_named(tiny_workspace: Workspace):
    workspace = restudy(tiny_workspace, pretrain={"mask": {"ndvi": 5.0}})
    with pytest.raises(BadInput, match=r"pretrain\.mask\.vegetation: no date of the training tiles is green enough"):
        pretrain(workspace, Silent())
    assert not workspace.pretrained.exists()


def test_every_epoch_is_reported_with_loss_and_validation(tiny_workspace: Workspace):
    seen: list[tuple[str, int, int, Mapping[str, Value]]] = []

    class Listener(Silent):
        def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
            seen.append((what, done, total, values or {}))

    pretrain(tiny_workspace, Listener())
    assert [entry[:3] for entry in seen] == [("epoch", 1, 2), ("epoch", 2, 2)]
    assert all(set(entry[3]) == {"loss", "validation"} for entry in seen)


@pytest.mark.parametrize("choose", ["even", "random"])
def test_the_sample_is_in_reflectance_and_days_and_shows_what_was_hidden(tiny_workspace: Workspace, choose: str):
    lengths = {"d6": {"dates": 6, "choose": choose}}
    pretrain(restudy(tiny_workspace, method={"positions": "index"}, lengths=lengths), Silent())
    sample = np.load(tiny_workspace.pretrained / "sample.npz")
    held_out = read_json(tiny_workspace.pretrained / "history.json")["held_out"]
    assert str(sample["tile"]) in held_out
    assert sample["images"].shape == sample["reconstruction"].shape == (6, 4, 8, 8)
    assert sample["images"].min() > -0.1 and sample["images"].max() < 1.0
    assert not sample["hidden"][~sample["valid"]].any() and sample["hidden"].any()
    assert (np.diff(sample["dates"]) > 0).all() and sample["dates"][0] >= 60
