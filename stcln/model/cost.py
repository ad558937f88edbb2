"""What a network costs, in closed form: parameters and multiply-adds. Seconds and machines do not belong here.

Counted are matrix products and convolutions, whole as they are computed: padding at the border, dates and pixels that a
mask leaves out. Left out are norms, activations, softmax, sums, masks, the encoding of positions, and the product of
the head's two weights, which is made once a batch.
"""

from torch import nn

from stcln.model.checkpoint import Card
from stcln.model.network import Config
from stcln.model.windows import cover, stride

KERNEL = 3 * 3  # of every convolution
BACKWARD = 2  # a training step costs its forward pass and twice that again: gradients of features and of weights


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(config: Config, dates: int, height: int, width: int) -> int:
    """Multiply-adds of a forward pass over one window; FLOPs are twice as many.

    Args:
        config: The network's dimensions; with 0 classes it is the one of pre-training.
        dates: T, padded ones counted.
        height: H.
        width: W.
    """
    C, K, S, D = config.bands, config.classes, config.stem, config.width
    P = height * width
    convolutions = KERNEL * (C * S + S * S + S * D + D * D)
    attention = 4 * D * D + 2 * dates * D  # q, k, v and out; likeness and mixing over all dates
    layers = config.layers * (attention + 2 * D * config.feedforward)
    encoder = P * dates * (convolutions + layers)
    if not K:
        return encoder + P * dates * D * C
    likeness = dates * (D * D + P * D)  # q of every date, with k's weights in it; each pixel against all others
    return encoder + P * (likeness + D * D + P * D + D * K)


def training(forward: int) -> int:
    """Multiply-adds of a training step from those of its forward pass.

    Left out are the optimiser's, and what a CPU makes again in its backward pass to spare memory.
    """
    return (1 + BACKWARD) * forward


def config_of(card: Card) -> Config:
    """The dimensions of a card's network."""
    return Config.of(card.size, len(card.bands), len(card.classes))


def tile_multiply_adds(card: Card, dates: int, height: int, width: int) -> int:
    """Multiply-adds of `predict_tile`, which computes the pixels where its windows overlap several times.

    Args:
        card: Of the classifier.
        dates: T.
        height: Of the tile, in pixels.
        width: Of the tile, in pixels.
    """
    rows, columns, window = cover(card, height, width)
    return len(rows) * len(columns) * multiply_adds(config_of(card), dates, *window)


def map_multiply_adds(card: Card, dates: int) -> float:
    """Multiply-adds for a pixel of a map much larger than a window, as `predict` maps a cube.

    A map is computed in rectangles; the windows that two of them share, and both compute, count once.
    """
    window = multiply_adds(config_of(card), dates, card.window, card.window)
    return window / stride(card.window) ** 2
