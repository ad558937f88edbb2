"""The two loaders of a run, and the card that remembers what its images were made of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stcln.data.loader import Loader
from stcln.data.series import Series, drawable, statistics
from stcln.data.store import SeasonStore
from stcln.model.checkpoint import Card
from stcln.study import Finetune, Optimisation, Study

LEAST_STD = 1.0  # reflectance x 10,000: a band that never changes is not blown up


def loaders(
    study: Study,
    options: Optimisation,
    length: str,
    windows: tuple[Sequence[Series], Sequence[Series]],
    scale: tuple[ArrayLike, ArrayLike],
    seed: int,
) -> tuple[Loader, Loader]:
    """The loaders of training and validation.

    Args:
        study: Gives method and lengths.
        options: Batch; augmentation, of the training windows of a fine-tuning.
        length: Name of the length.
        windows: (training, validation).
        scale: Mean and standard deviation [C] for both; with `statistics: split` each has its own instead.
        seed: Of order and draws.
    """

    def loader(which: int) -> Loader:
        mean, std = statistics(windows[which]) if study.method.statistics == "split" else scale
        return Loader(
            windows[which],
            options.batch,
            np.asarray(mean, np.float32),
            np.maximum(np.asarray(std, np.float32), LEAST_STD),
            study.method,
            seed,
            training=which == 0,
            length=drawable(study.lengths[length])[1],
            augment=which == 0 and isinstance(options, Finetune) and options.augment,
        )

    return loader(0), loader(1)


def card(study: Study, store: SeasonStore, loader: Loader, length: str, seed: int, seasons: str = "") -> Card:
    """The card of a network trained with a loader: a classifier of the store's season, or an encoder of `seasons`."""
    return Card(
        kind="encoder" if seasons else "classifier",
        size=study.model.size,
        bands=store.bands,
        classes=() if seasons else store.classes,
        ignore=() if seasons else store.ignore,
        mean=tuple(loader.mean.tolist()),
        std=tuple(loader.std.tolist()),
        window=study.pretrain.window if seasons else study.finetune.window,
        method=study.method.model_dump(),
        length=study.lengths[length].model_dump(),
        length_name=length,
        season=seasons or store.season,
        season_start=f"{store.start:%m-%d}",
        seed=seed,
    )
