"""Multiply-adds in closed form are those that torch counts while the network runs."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stcln.model.cost import multiply_adds, parameters, training
from stcln.model.network import STCLN, Config, Reconstructor, build, build_reconstructor

SHAPES = [
    ("tiny", 4, 3, 5, (6, 8)),
    ("tiny", 13, 18, 2, (9, 4)),
    ("base", 10, 20, 3, (4, 4)),
    ("large", 10, 20, 2, (4, 2)),
]


def counted(network: nn.Module, images: torch.Tensor, *more: torch.Tensor, backward: bool = False) -> int:
    """Half the FLOPs that torch counts; attention in its plain form, since not every kernel is known to the counter."""
    positions = torch.arange(images.shape[1])[None]
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(backward):
        result = network(images, positions, *more)
        if backward:
            result.sum().backward()
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2 - (3 if backward else 1) * product_of_weights(network)


def product_of_weights(network: nn.Module) -> int:
    """The one product of a forward pass that is not counted: it is made once a batch, whatever the batch."""
    return network.config.width**3 if isinstance(network, STCLN) else 0


@pytest.mark.parametrize(("size", "bands", "classes", "dates", "window"), SHAPES)
def test_a_classifier_costs_what_torch_counts(size, bands, classes, dates, window) -> None:
    config = Config.of(size, bands, classes)
    images = torch.randn(1, dates, bands, *window)
    assert counted(build(config, 0).eval(), images) == multiply_adds(config, dates, *window)


@pytest.mark.parametrize(("size", "bands", "classes", "dates", "window"), SHAPES)
def test_pre_training_costs_what_torch_counts(size, bands, classes, dates, window) -> None:
    config, hidden = Config.of(size, bands), torch.zeros(1, dates, *window, dtype=torch.bool)
    images = torch.randn(1, dates, bands, *window)
    assert counted(build_reconstructor(config, 0).eval(), images, hidden) == multiply_adds(config, dates, *window)


def test_masks_and_parts_do_not_change_the_count() -> None:
    """Nothing is saved on what a mask leaves out, and a window in parts costs as much as in one."""
    config, valid = Config.of("tiny", 4, 3), torch.rand(1, 6, 40, 40) > 0.5
    assert 40 * 40 > 1024, "more pixels than the head holds at once"
    assert counted(build(config, 0).eval(), torch.randn(1, 6, 4, 40, 40), valid) == multiply_adds(config, 6, 40, 40)


def test_a_training_step_costs_three_forward_passes_but_for_the_gradient_of_the_images() -> None:
    config, bands = Config.of("base", 10, 20), 10
    found = counted(build(config, 0).train(), torch.randn(1, 4, bands, 8, 8), backward=True)
    images = 4 * 64 * 9 * bands * config.stem
    again = 4 * 64 * config.layers * 4 * config.width  # attention weights, made again in backward on a CPU
    assert found - again == training(multiply_adds(config, 4, 8, 8)) - images


def test_the_published_network_has_its_live_parameters_and_no_other() -> None:
    config = Config.of("base", 10, 20)
    with torch.device("meta"):
        assert parameters(config.encoder()) == 3_046_592 and parameters(STCLN(config)) == 3_248_341
        assert parameters(Reconstructor(config.encoder())) == 3_046_592 + 257 * 10 + 1
