import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from stcln.errors import BadInput
from stcln.model.checkpoint import Card, load, load_classifier, load_encoder, save
from stcln.model.network import Config, build


@pytest.fixture
def saved(tmp_path: Path, card: Card) -> Path:
    save(tmp_path, build(Config.of("tiny", 4, 5), seed=1), card)
    return tmp_path


def encoder_card(card: Card) -> Card:
    return card.model_copy(update={"kind": "encoder", "classes": (), "ignore": ()})


def test_a_checkpoint_rebuilds_its_own_network_and_card(saved: Path, card: Card):
    network, found = load(saved)
    expected = build(Config.of("tiny", 4, 5), seed=1).state_dict()
    assert found == card
    assert not network.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_equal_networks_give_equal_bytes(saved: Path, card: Card, tmp_path: Path):
    again = tmp_path / "again"
    again.mkdir()
    save(again, *load_classifier(saved))
    for name in ("weights.safetensors", "card.json"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_an_encoder_is_a_checkpoint_of_its_own(tmp_path: Path, card: Card):
    save(tmp_path, build(Config.of("tiny", 4, 5), seed=1).encoder, encoder_card(card))
    encoder, _ = load_encoder(tmp_path)
    assert encoder.bands == 4
    with pytest.raises(BadInput, match="knows no classes"):
        load_classifier(tmp_path)


def test_a_network_is_not_saved_under_a_card_that_describes_another(tmp_path: Path, card: Card):
    with pytest.raises(BadInput, match="do not fit the card"):
        save(tmp_path, build(Config.of("tiny", 4, 6), seed=1), card)
    with pytest.raises(BadInput, match=r"106 tensors do not fit the card: body\.0\.weight is missing"):
        save(tmp_path, build(Config.of("tiny", 4, 5), seed=1), encoder_card(card))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("head.blend"), "head.blend is missing"),
        (lambda state: state.update(more=torch.ones(1)), "more is unknown"),
        (lambda state: state.update({"head.blend": torch.ones(2)}), r"head.blend is torch.float32 \[2\], the card's"),
        (lambda state: state.update({"head.blend": torch.ones(1).double()}), "head.blend is torch.float64"),
    ],
)
def test_weights_that_do_not_fit_the_card_are_named(saved: Path, change, sentence):
    state = load_file(saved / "weights.safetensors")
    change(state)
    save_file(state, saved / "weights.safetensors")
    with pytest.raises(BadInput, match=sentence):
        load(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", "huge"), ("mean", [1.0]), ("std", [1, 1, 0, 1]), ("ignore", [5]), ("kind", "encoder"), ("colour", 1)],
)
def test_a_card_that_contradicts_itself_is_refused(saved: Path, field, value):
    path = saved / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(BadInput, match=r"card\.json"):
        load(saved)


def test_a_card_cannot_be_changed(card: Card):
    with pytest.raises(ValidationError):
        card.window = 3


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_a_missing_or_broken_file_is_named(saved: Path, name: str):
    (saved / name).write_bytes((saved / name).read_bytes()[:20])
    with pytest.raises(BadInput, match=name):
        load(saved)
    (saved / name).unlink()
    with pytest.raises(BadInput, match=name):
        load(saved)


def test_a_cells_directory_is_refused_and_a_seed_is_named(tmp_path: Path) -> None:
    (tmp_path / "seed-3407").mkdir()
    with pytest.raises(BadInput, match="holds one model a seed: seed-3407; name one of them"):
        load(tmp_path)
