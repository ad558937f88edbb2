"""The CPU's cheap dropout and attention against torch's plain ones: the same law, the same gradients."""

import pytest
import torch
from torch.nn import functional as F

from stcln.model import attention as attention_module
from stcln.model import dropout as dropout_module
from stcln.model.attention import attend
from stcln.model.dropout import drawn, drop, new_seed, rectify_and_drop


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_each_element_is_dropped_with_its_probability_and_by_itself(p):
    dropped = drawn((1000, 1003), p, new_seed())
    assert float(dropped.float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 1_003_000) ** 0.5)
    for shift in (1, 2, 3, 4, 1003):  # neighbours come out of the same 64-bit draw
        both = float((dropped.flatten()[shift:] & dropped.flatten()[:-shift]).float().mean())
        assert both == pytest.approx(p * p, abs=0.0015)


def test_a_draw_comes_from_torchs_generator_and_is_the_same_for_the_same_seed():
    torch.manual_seed(5)
    first, second = (drawn((7, 9), 0.5, new_seed()) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(drawn((7, 9), 0.5, new_seed()), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("double", [False, True])
def test_dropping_is_multiplying_by_the_mask_and_the_scale(monkeypatch, double):
    dtype = torch.float64 if double else torch.float32
    mask = torch.rand(6, 5) < 0.3
    monkeypatch.setattr(dropout_module, "drawn", lambda *_: mask)
    values = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    given = torch.randn(6, 5, dtype=dtype)
    for ours, plain in (
        (drop(values * 1, 0.3), values * ~mask / 0.7),
        (rectify_and_drop(values * 1, 0.3), values.relu() * ~mask / 0.7),
    ):
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(*(torch.autograd.grad(out, values, given)[0] for out in (ours, plain)))


def test_nothing_is_dropped_with_probability_zero():
    values = torch.randn(4, 4)
    assert torch.equal(drop(values.clone(), 0.0), values)
    assert torch.equal(rectify_and_drop(values.clone(), 0.0), values.relu())


def plain_attention(packed, heads, seen, dropped, p):
    """In the words of the paper, with every intermediate written down."""
    N, T, D = packed.shape[0], packed.shape[1], packed.shape[2] // 3
    query, key, value = packed.view(N, T, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(2, 3) / (D // heads) ** 0.5
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None, :], -torch.inf)
    weights = scores.softmax(-1) * ~dropped.view(N, heads, T, T) / (1 - p)
    return (weights @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_equals_the_plain_one_and_so_do_its_gradients(monkeypatch, masked):
    N, T, D, heads = 5, 7, 16, 4
    seen = torch.rand(N, T) > 0.4 if masked else None
    if seen is not None:
        seen[:, 2] = True
    dropped = torch.rand(N * heads, T, T) < 0.2
    monkeypatch.setattr(attention_module, "drawn", lambda *_: dropped)
    packed = torch.randn(N, T, 3 * D, requires_grad=True)
    exact = packed.detach().double().requires_grad_()
    ours, plain = attend(packed, heads, seen, 0.2), plain_attention(exact, heads, seen, dropped, 0.2)
    torch.testing.assert_close(ours.double(), plain, atol=1e-5, rtol=0)
    given = torch.randn(N, T, D)
    gradient = torch.autograd.grad(ours, packed, given)[0].double()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, exact, given.double())[0], atol=1e-5, rtol=0)


def test_attention_without_dropout_equals_the_plain_one():
    packed = torch.randn(5, 7, 48)
    seen = torch.rand(5, 7) > 0.3
    seen[:, 0] = True
    none = torch.zeros(20, 7, 7, dtype=torch.bool)
    found = attend(packed, 4, seen, 0.0)
    torch.testing.assert_close(found, plain_attention(packed, 4, seen, none, 0.0), atol=1e-6, rtol=0)


def test_on_another_device_torchs_own_dropout_is_used(monkeypatch):
    """The meta device stands in for CUDA: it takes every operation and computes none."""
    monkeypatch.setattr(dropout_module, "drawn", lambda *_: pytest.fail("drawn on the CPU"))
    monkeypatch.setattr(attention_module, "drawn", lambda *_: pytest.fail("drawn on the CPU"))
    assert drop(torch.empty(3, 4, device="meta"), 0.1).shape == (3, 4)
    assert rectify_and_drop(torch.empty(3, 4, device="meta"), 0.1).shape == (3, 4)
    assert attend(torch.empty(3, 4, 24, device="meta"), 2, None, 0.1).shape == (3, 4, 8)


def test_a_layer_drops_as_torchs_own_transformer_layer_does_on_average():
    """The mean over draws of a layer's output is that of torch's plain layer with the same weights."""
    from stcln.model.encoder import Layer

    layer = Layer(16, 2, 32).train()
    twin = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True).train()
    twin.load_state_dict({
        "self_attn.in_proj_weight": layer.qkv.weight, "self_attn.in_proj_bias": layer.qkv.bias,
        "self_attn.out_proj.weight": layer.out.weight, "self_attn.out_proj.bias": layer.out.bias,
        "linear1.weight": layer.widen.weight, "linear1.bias": layer.widen.bias,
        "linear2.weight": layer.narrow.weight, "linear2.bias": layer.narrow.bias,
        "norm1.weight": layer.norm1.weight, "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight, "norm2.bias": layer.norm2.bias,
    })  # fmt: skip
    series = torch.randn(1, 6, 16).expand(4000, -1, -1)
    with torch.no_grad():
        ours, plain = layer(series, None), twin(series)
    torch.testing.assert_close(ours.mean(0), plain.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(ours.std(0), plain.std(0), atol=0.05, rtol=0)


def test_a_mask_that_hides_nothing_changes_nothing():
    from stcln.model.network import Config, build

    network = build(Config.of("tiny", 3, 4), seed=0).eval()
    images, positions = torch.randn(2, 4, 3, 5, 5), torch.arange(4).repeat(2, 1)
    whole = network(images, positions)
    assert torch.equal(network(images, positions, torch.ones(2, 4, dtype=torch.bool)), whole)
    assert torch.equal(network(images, positions, torch.ones(2, 4, 5, 5, dtype=torch.bool)), whole)
    assert F.softmax(whole, 1).isfinite().all()
