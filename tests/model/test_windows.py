import numpy as np
import pytest
import torch

from stcln.model.checkpoint import Card
from stcln.model.compute import Device
from stcln.model.network import Config, build
from stcln.model.windows import normalise, predict_tile

CPU = Device(torch.device("cpu"), torch.float32)


def tile(T: int = 3, H: int = 20, W: int = 13, seed: int = 0):
    rng = np.random.default_rng(seed)
    reflectance = rng.integers(0, 5000, (T, 4, H, W)).astype(np.int16)
    return reflectance, rng.random((T, H, W)) > 0.2, np.arange(T) * 20


def by_pixel(reflectance, positions, valid):
    """Stands in for a network that looks at one pixel alone: logits [B,5,H,W] from the first date."""
    first = reflectance[:, 0] / 1000
    return np.concatenate([first, first[:, :1] - first[:, 1:2]], axis=1)


def test_windows_blend_into_the_whole_where_a_pixel_is_judged_alone(card: Card):
    reflectance, valid, positions = tile()
    blended = predict_tile(by_pixel, card, reflectance, valid, positions, CPU)
    logits = torch.from_numpy(by_pixel(reflectance[None].astype(np.float32), None, None))
    np.testing.assert_allclose(blended, logits.softmax(1)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(("H", "W"), [(20, 13), (8, 8), (5, 30), (9, 8), (3, 2)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_every_pixel_of_a_tile_of_any_shape_gets_probabilities(card: Card, H: int, W: int, overlap: float):
    probabilities = predict_tile(by_pixel, card, *tile(H=H, W=W), CPU, overlap=overlap)
    assert probabilities.shape == (5, H, W)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_a_network_sees_windows_of_the_size_it_was_trained_on_whatever_the_tile(card: Card):
    sizes = set()

    def watch(reflectance, positions, valid):
        sizes.add((reflectance.dtype.name, reflectance.shape[-2:], valid.shape[-2:]))
        return by_pixel(reflectance, positions, valid)

    predict_tile(watch, card, *tile(), CPU)
    assert sizes == {("float32", (8, 8), (8, 8))}
    sizes.clear()
    predict_tile(watch, card.model_copy(update={"method": {"test_window": "tile"}}), *tile(), CPU)
    assert sizes == {("float32", (20, 13), (20, 13))}


def test_windows_overlap_and_count_most_in_their_middle(card: Card):
    """Each window votes for a class by its turn: probabilities between 0 and 1 exist only where windows overlap."""
    turn = iter(range(100))

    def vote(reflectance, positions, valid):
        logits = np.full((len(reflectance), 5, *reflectance.shape[-2:]), -50.0, np.float32)
        for b in range(len(reflectance)):
            logits[b, next(turn) % 2] = 50.0
        return logits

    first = predict_tile(vote, card, *tile(H=8, W=12), CPU)[0, 4]
    np.testing.assert_allclose(first[:4], 1, atol=1e-6)
    assert (np.diff(first[4:8]) < 0).all()
    np.testing.assert_allclose(first[8:], 0, atol=1e-6)


def test_a_torch_network_is_fed_normalised_images(card: Card):
    network = build(Config.of("tiny", 4, 5), seed=0).eval()
    reflectance, valid, positions = tile(H=8, W=8)
    images = normalise(torch.from_numpy(reflectance), card.mean, card.std)
    torch.testing.assert_close(images[0, 0], (torch.from_numpy(reflectance[0, 0]) - 400) / 300)
    with torch.inference_mode():
        expected = network(images[None], torch.from_numpy(positions)[None], torch.from_numpy(valid)[None]).softmax(1)[0]
    found = predict_tile(network, card, reflectance, valid, positions, CPU)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
