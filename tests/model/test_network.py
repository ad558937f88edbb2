import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stcln.model import encoder as encoder_module
from stcln.model import heads
from stcln.model.encoder import encode_positions, visible
from stcln.model.network import STCLN, Config, build, build_reconstructor

SMALL = Config(bands=3, classes=4, stem=4, width=16, heads=2, layers=2, feedforward=16)


def small(seed: int = 0) -> STCLN:
    """With every parameter at work: the blend, which starts at 0, too."""
    network = build(SMALL, seed).eval()
    network.head.blend.data.fill_(0.7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(seed))
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def series(B: int, T: int, side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn((B, T, 3, side, side), generator=rng), torch.randint(0, 366, (B, T), generator=rng)


def padded(images: Tensor, positions: Tensor, where: list[int], garbage: float) -> tuple[Tensor, Tensor, Tensor]:
    """The series with a date of garbage put before each of the given places; and what is real."""
    B, T = positions.shape
    order = sorted([*range(T), *(place - 0.5 for place in where)])
    real = [t for t, place in enumerate(order) if float(place).is_integer()]
    wide = torch.full((B, len(order), *images.shape[2:]), garbage)
    days = torch.full((B, len(order)), 9999)
    valid = torch.zeros((B, len(order)), dtype=torch.bool)
    wide[:, real], days[:, real], valid[:, real] = images, positions, True
    return wide, days, valid


def test_the_published_sizes_have_as_many_parameters_as_took_part_in_a_forward_pass():
    network = STCLN(Config.of("base", 10, 20))
    assert sum(p.numel() for p in network.parameters()) == 3_248_341
    assert sum(p.numel() for p in network.encoder.parameters()) == 3_046_592


@pytest.mark.parametrize("size", ["tiny", "base", "large"])
def test_every_parameter_gets_a_gradient(size):
    network = build(Config.of(size, 3, 4), seed=0)
    network.head.blend.data.fill_(0.5)
    images, positions = series(1, 3, 4)
    network(images, positions).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@given(
    where=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    garbage=st.sampled_from([0.0, -1.0, 1e6, float("nan"), float("inf")]),
    training=st.booleans(),
    by_pixel=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_a_padded_series_gives_the_logits_of_the_unpadded_one(where, garbage, training, by_pixel):
    images, positions = series(2, 4, 5)
    wide, days, valid = padded(images, positions, where, garbage)
    if by_pixel:
        valid = valid[:, :, None, None].expand(-1, -1, 5, 5)
    plain, other = small().train(training), small().train(training)
    torch.testing.assert_close(other(wide, days, valid), plain(images, positions), atol=1e-5, rtol=0)
    for name, buffer in plain.named_buffers():  # what BatchNorm learnt, too
        torch.testing.assert_close(dict(other.named_buffers())[name], buffer, atol=1e-5, rtol=0)


def test_series_of_different_lengths_share_a_batch_without_changing_each_other():
    images, positions = series(2, 6, 4)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 3:] = False
    network = small()
    together = network(images, positions, valid)
    alone = torch.cat([network(images[:1], positions[:1]), network(images[1:, :3], positions[1:, :3])])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_what_lies_under_a_cloud_does_not_matter():
    images, positions = series(1, 5, 6)
    valid = torch.rand((1, 5, 6, 6), generator=torch.Generator().manual_seed(1)) > 0.4
    changed = torch.where(valid[:, :, None], images, torch.tensor(float("nan")))
    network = small()
    assert torch.equal(network(images, positions, valid), network(changed, positions, valid))
    assert not torch.allclose(network(images, positions, valid), network(images, positions))


@pytest.mark.parametrize("training", [False, True])
def test_a_pixel_that_was_never_seen_gets_finite_logits_and_gradients(training):
    images, positions = series(2, 4, 4)
    valid = torch.ones(2, 4, 4, 4, dtype=torch.bool)
    valid[0, :, 1, 2] = False  # never seen, although its dates are real
    valid[1] = False  # nothing seen at all
    network = small().train(training)
    logits = network(images, positions, valid)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_pixel_that_was_never_seen_counts_every_real_date_and_no_padded_one():
    valid = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    valid[0, :2] = True
    valid[0, :, 1, 1] = False
    seen = visible(valid, (2, 2))
    assert seen[0, :, 1, 1].tolist() == [True, True, False]
    assert torch.equal(seen[0, :, 0], valid[0, :, 0])


def test_parts_computed_one_after_the_other_equal_the_whole(monkeypatch):
    images, positions = series(2, 4, 7)
    valid = torch.rand((2, 4, 7, 7), generator=torch.Generator().manual_seed(2)) > 0.3
    network = small()
    whole = network(images, positions, valid).detach()
    monkeypatch.setattr(encoder_module, "TOKENS", 40)
    monkeypatch.setattr(heads, "SCORES", 490)
    with torch.inference_mode():
        torch.testing.assert_close(network(images, positions, valid), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_parts_are_those_of_the_whole(monkeypatch, masked):
    images, positions = series(2, 4, 7)
    valid = torch.rand((2, 4, 7, 7), generator=torch.Generator().manual_seed(2)) > 0.3 if masked else None
    found = []
    for tokens in (40, 10_000):
        monkeypatch.setattr(encoder_module, "TOKENS", tokens)
        network = small().train()
        network(images, positions, valid).square().sum().backward()
        found.append([p.grad for p in network.parameters()])
    for part, whole in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)


def test_positions_are_sines_and_cosines_of_days_the_same_for_every_head():
    encoded = encode_positions(torch.tensor([[0, 10]]), width=16, heads=2)[0]
    assert encoded.shape == (2, 16)
    assert torch.equal(encoded[:, :8], encoded[:, 8:])
    assert encoded[0, :8].tolist() == [0, 1] * 4
    angle = torch.tensor(10 / 1000 ** (2 / 8))
    torch.testing.assert_close(encoded[1, 2:4], torch.stack([angle.sin(), angle.cos()]))


def test_a_hidden_pixel_is_not_seen_by_the_reconstruction():
    images, positions = series(1, 4, 4)
    hidden = torch.rand((1, 4, 4, 4), generator=torch.Generator().manual_seed(3)) < 0.4
    network = build_reconstructor(SMALL, seed=0).eval()
    changed = torch.where(hidden[:, :, None], torch.tensor(7.0), images)
    assert torch.equal(network(images, positions, hidden), network(changed, positions, hidden))


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (build(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.query.weight"], other["head.query.weight"])


def test_training_uses_dropout_and_evaluation_does_not():
    images, positions = series(1, 3, 4)
    network = build(SMALL, seed=0)
    network.eval()
    assert torch.equal(network(images, positions), network(images, positions))
    trained = copy.deepcopy(network).train()
    assert not torch.equal(trained(images, positions), trained(images, positions))


def test_bfloat16_stays_finite_at_extreme_reflectance():
    images, positions = series(1, 5, 6)
    network = build(Config.of("tiny", 3, 4), seed=0).eval()
    with torch.inference_mode():
        exact = network(images * 1000, positions)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = network(images * 1000, positions)
    assert float((near - exact).abs().max()) <= 0.1 * float(exact.std())


def test_features_are_zero_where_a_date_does_not_count():
    images, positions = series(1, 4, 5)
    valid = torch.rand((1, 4, 5, 5), generator=torch.Generator().manual_seed(4)) > 0.4
    valid[:, 0] = True
    temporal, spatial = small().encoder(images, positions, valid)
    assert torch.equal(temporal.any(dim=-1).permute(0, 3, 1, 2), valid)
    assert not spatial.permute(0, 1, 3, 4, 2)[~valid].any()
    assert spatial.permute(0, 1, 3, 4, 2)[valid].any(dim=-1).all()


def test_scores_of_attention_between_pixels_stay_float32_in_bfloat16():
    """They are sums over all dates and channels: rounded to 8 bits, likely and unlikely pixels would change places."""
    rng = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn((1, 9, width), generator=rng) * 10 for width in (64, 64, 4))
    exact = heads._mix(query, key, value, 0.25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(heads._mix(query, key, value, 0.25), exact)
