import os
from pathlib import Path

import pytest
import torch

from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.encoder import Encoder
from stcln.model.network import STCLN
from stcln.model.published import load_published, our_name


class Notes(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message, values=None):
        self.messages.append(message)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_both_public_forms_are_read(reference: Path):
    encoder = load_published(reference / "pastis_pretrained.tar")
    classifier = load_published(reference / "pastis_model_best.tar")
    assert isinstance(encoder, Encoder)
    assert isinstance(classifier, STCLN)
    assert (classifier.config.bands, classifier.config.classes) == (10, 20)
    assert not encoder.training


def test_dead_tensors_are_named_and_dropped(reference: Path):
    notes = Notes()
    encoder = load_published(reference / "pastis_pretrained.tar", notes)
    assert len(encoder.state_dict()) + notes.messages[0].count(",") + 1 == len(
        torch.load(reference / "pastis_pretrained.tar", weights_only=True)
    )
    for part in ("up3.conv", "inconv", "mlp", "out_norm", "transformer_encoder"):
        assert part in notes.messages[0]


def test_names_of_the_mtlcc_form_are_the_same_with_other_bands(reference: Path, tmp_path: Path):
    state = torch.load(reference / "pastis_pretrained.tar", weights_only=True)
    state["inc.double_conv.0.weight"] = torch.ones(32, 13, 3, 3)
    torch.save(state, tmp_path / "checkpoint_99.utae.tar")
    encoder = load_published(tmp_path / "checkpoint_99.utae.tar")
    assert isinstance(encoder, Encoder)
    assert encoder.bands == 13


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.update({"backbone.weight": torch.ones(1)}), "backbone.weight is not of the published"),
        (lambda state: state.pop("inc.double_conv.0.weight"), "stem.0.weight' is missing"),
        (lambda state: state.pop("temporal_encoder.in_norm.bias"), "norm.bias"),
        (lambda state: state.update({"temporal_encoder.in_norm.bias": torch.ones(7)}), "size mismatch"),
        (lambda state: state.update({"inc.double_conv.0.weight": torch.tensor(float("nan"))}), "too few dimensions"),
        (lambda state: state.update({"note": "hello"}), "does not hold a state dict"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(reference: Path, tmp_path: Path, change, sentence):
    state = torch.load(reference / "pastis_pretrained.tar", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "other.tar")
    with pytest.raises(BadInput, match=r"other\.tar") as caught:
        load_published(tmp_path / "other.tar")
    assert sentence in str(caught.value)


def test_a_checkpoint_that_wants_to_run_code_is_refused_and_does_not(tmp_path: Path):
    torch.save({"model_state_dict": {"l": Malicious(tmp_path / "made")}}, tmp_path / "evil.tar")
    with pytest.raises(BadInput, match="asks to run code"):
        load_published(tmp_path / "evil.tar")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "evil.tar", weights_only=False)  # read without care it makes the directory
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.tar"):
        load_published(tmp_path / "x.tar")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(BadInput, match="missing"):
        load_published(tmp_path / "none.tar")


def test_every_published_name_of_the_head_and_encoder_maps_to_a_parameter():
    assert our_name("conv1.weight") == "head.query.weight"
    assert our_name("utae.down1.maxpool_conv.0.double_conv.3.weight") == "encoder.body.3.weight"
    assert our_name("temporal_encoder.layer_stack.2.self_attn.in_proj_bias") == "layers.2.qkv.bias"
    assert our_name("utae.up3.conv.double_conv.0.weight") is None
    with pytest.raises(KeyError):
        our_name("midlinear.weight")
