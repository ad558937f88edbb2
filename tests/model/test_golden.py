"""The published code's numbers, computed on random weights in float32 on a CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stcln.model.encoder import Encoder
from stcln.model.network import STCLN, Reconstructor, reconstruction_loss
from stcln.model.published import load_published, our_name


@pytest.fixture
def published(reference: Path) -> STCLN:
    network = load_published(reference / "pastis_model_best.tar")
    assert isinstance(network, STCLN)
    return network


def without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


def expected_norms(reference: Path) -> dict[str, float]:
    with np.load(reference / "pastis_golden.npz") as arrays:
        names, norms = arrays["grad_norm_names"].tolist(), arrays["grad_norms"].tolist()
    return {our_name(name): norm for name, norm in zip(names, norms, strict=True)}


@pytest.mark.parametrize("positions", ["index", "days"])
def test_logits_are_those_of_the_published_code(published: STCLN, golden: dict[str, Tensor], positions: str):
    with torch.inference_mode():
        logits = published(golden["x"], golden[f"positions_{positions}"])
    torch.testing.assert_close(logits, golden[f"logits_eval_{positions}"], atol=1e-4, rtol=0)


def test_temporal_features_are_those_of_the_published_code(published: STCLN, golden: dict[str, Tensor]):
    with torch.inference_mode():
        temporal, _ = published.encoder(golden["x"], golden["positions_index"])
    torch.testing.assert_close(temporal[:, ::4, ::4], golden["encoded_eval_index"], atol=1e-4, rtol=0)


def test_training_loss_and_every_gradient_are_those_of_the_published_code(
    published: STCLN, golden: dict[str, Tensor], reference: Path
):
    without_dropout(published)
    loss = cross_entropy(published(golden["x"], golden["positions_index"]), golden["y"], ignore_index=0)
    loss.backward()
    assert loss.item() == pytest.approx(float(golden["train_loss_no_dropout"]), rel=1e-3)
    found = {name: float(p.grad.norm()) for name, p in published.named_parameters()}
    assert found == pytest.approx(expected_norms(reference), rel=1e-3)


def test_reconstruction_and_its_loss_are_those_of_the_published_code(golden: dict[str, Tensor], reference: Path):
    """`mask_kept` is true where a pixel stays visible: our mask is its opposite."""
    encoder = load_published(reference / "pastis_pretrained.tar")
    assert isinstance(encoder, Encoder)
    network = Reconstructor(encoder).eval()
    network.predict.weight.data = golden["reconstruction_weight"]
    network.predict.bias.data = golden["reconstruction_bias"]
    network.token.data = golden["mask_token"]
    hidden = ~golden["mask_kept"]
    with torch.inference_mode():
        predicted = network(golden["x"], golden["positions_index"], hidden)
    torch.testing.assert_close(predicted, golden["reconstruction"], atol=1e-4, rtol=1e-4)
    loss = reconstruction_loss(predicted, golden["x"], hidden)
    assert float(loss) == pytest.approx(float(golden["pretrain_loss"]), rel=1e-4)


def test_float32_stays_within_a_hundred_thousandth_of_float64(published: STCLN, golden: dict[str, Tensor]):
    with torch.inference_mode():
        plain = published(golden["x"], golden["positions_days"])
        exact = published.double()(golden["x"].double(), golden["positions_days"])
    assert exact.dtype == torch.float64
    assert float((plain - exact).abs().max()) <= 1e-5 * float(exact.std())


def test_bfloat16_stays_within_a_twentieth_of_float64(published: STCLN, golden: dict[str, Tensor]):
    """The bound for bfloat16, against a network that rounds nothing: 5 % of the spread of the logits."""
    with torch.inference_mode():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = published(golden["x"], golden["positions_days"])
        exact = published.double()(golden["x"].double(), golden["positions_days"])
    assert float((near - exact).abs().max()) <= 0.05 * float(exact.std())


def test_bfloat16_training_gives_gradients_within_a_tenth_of_float64(published: STCLN, golden: dict[str, Tensor]):
    """Of all weights together; below of each tensor's norm."""
    without_dropout(published)
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        published.zero_grad()
        network = published.to(torch.promote_types(dtype, torch.float32))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = network(golden["x"].to(torch.promote_types(dtype, torch.float32)), golden["positions_index"])
        cross_entropy(logits, golden["y"], ignore_index=0).backward()
        found.append(torch.cat([p.grad.flatten().double() for p in network.parameters()]))
    assert float((found[0] - found[1]).norm() / found[1].norm()) <= 0.1


def test_bfloat16_stays_within_a_twentieth_of_the_spread_of_logits(published: STCLN, golden: dict[str, Tensor]):
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = published(golden["x"], golden["positions_days"])
    assert logits.dtype == torch.float32
    exact = golden["logits_eval_days"]
    assert float((logits - exact).abs().max()) <= 0.05 * float(exact.std())


def test_bfloat16_training_gives_gradients_within_a_tenth(published: STCLN, golden: dict[str, Tensor], reference: Path):
    without_dropout(published)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = published(golden["x"], golden["positions_index"])
    cross_entropy(logits, golden["y"], ignore_index=0).backward()
    assert {name: float(p.grad.norm()) for name, p in published.named_parameters()} == pytest.approx(
        expected_norms(reference), rel=0.1
    )
