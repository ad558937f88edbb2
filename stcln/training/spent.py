"""What a training computes, counted: the same at every run, so that it may stand in the history of a model."""

from stcln.data.lengths import choose
from stcln.model import cost
from stcln.model.checkpoint import Card
from stcln.training.feed import Feed


def multiply_adds(card: Card, training: Feed, validation: Feed, epochs: int) -> int:
    """Multiply-adds of a training: every epoch each training window forward and backward, each validation window once.

    A window counts with its own dates: not with those that pad it to the longest of its batch, nor with batches that
    were drawn and had nothing to hide.

    Args:
        card: Of the network.
        training: Its training windows.
        validation: Its validation windows.
        epochs: How many were run.
    """
    return epochs * (cost.training(_forward(card, training)) + _forward(card, validation))


def _forward(card: Card, feed: Feed) -> int:
    total, rule, config = 0, feed.loader.length, cost.config_of(card)
    for sample in feed.loader.windows:
        dates = sample.dates if rule is None else choose(sample.dates, rule, sample.season)
        total += cost.multiply_adds(config, len(dates), *sample.labels.shape)
    return total
