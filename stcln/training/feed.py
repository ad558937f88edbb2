"""The batches of a run: two loaders, the threads that work ahead, and the card that remembers how images were made."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import ArrayLike

from stcln.data.ahead import ahead, readers
from stcln.data.loader import Batch, Loader
from stcln.data.samples import Sample
from stcln.data.series import drawable, statistics
from stcln.data.store import SeasonStore
from stcln.model.checkpoint import Card
from stcln.model.compute import Device
from stcln.study import Finetune, Optimisation, Study
from stcln.training.distributed import Team

LEAST_STD = 1.0  # reflectance x 10,000: a band that never changes is not blown up


class Feed:
    """The batches of a loader, made by threads before training asks for them.

    What a batch is does not depend on the threads: it is the loader's. Close the feed when training is over.

    Args:
        loader: Makes them.
        device: Where they will go: a batch for CUDA lies in memory that it copies from by itself.
        threads: How many make them.
    """

    def __init__(self, loader: Loader, device: Device, threads: int) -> None:
        self.loader, self.device, self.threads = loader, device, threads
        self._next: tuple[int, int] | None = None
        self._stream: Generator[Batch] = ahead((), threads)

    def __len__(self) -> int:
        return len(self.loader)

    def batch(self, epoch: int, step: int, attempt: int = 0) -> Batch:
        """One batch. The one after it is expected next; any other is as right, but not made ahead."""
        if attempt:
            return self._make(epoch, step, attempt)
        if (epoch, step) != self._next:
            self.close()
            self._stream = ahead(self._endless(epoch, step), self.threads)
        self._next = (epoch, step + 1) if step + 1 < len(self) else (epoch + 1, 0)
        return next(self._stream)

    def epoch(self, epoch: int, steps: range | None = None) -> Generator[Batch]:
        """The batches of one epoch, or of some of its steps; to be closed if it is left midway."""
        with closing(ahead(self._jobs(epoch, range(len(self)) if steps is None else steps), self.threads)) as batches:
            yield from batches

    def close(self) -> None:
        """End the threads."""
        self._stream.close()
        self._next = None

    def _jobs(self, epoch: int, steps: range) -> Iterator[Callable[[], Batch]]:
        return (partial(self._make, epoch, step) for step in steps)

    def _endless(self, epoch: int, step: int) -> Iterator[Callable[[], Batch]]:
        yield from self._jobs(epoch, range(step, len(self)))
        for later in count(epoch + 1):
            yield from self._jobs(later, range(len(self)))

    def _make(self, epoch: int, step: int, attempt: int = 0) -> Batch:
        batch = self.loader.batch(epoch, step, attempt)
        return batch.pinned() if self.device.device.type == "cuda" else batch


def feeds(
    study: Study,
    options: Optimisation,
    length: str,
    windows: tuple[Sequence[Sample], Sequence[Sample]],
    scale: tuple[ArrayLike, ArrayLike],
    seed: int,
    device: Device,
) -> tuple[Feed, Feed]:
    """The feeds of training and validation.

    Args:
        study: Gives method and lengths.
        options: Batch; augmentation, of the training windows of a fine-tuning.
        length: Name of the length.
        windows: (training, validation).
        scale: Mean and standard deviation [C] for both; with `statistics: split` each has its own instead.
        seed: Of order and draws.
        device: Where batches go.
    """
    team = Team.here()

    def feed(which: int) -> Feed:
        mean, std = statistics(w.read() for w in windows[which]) if study.method.statistics == "split" else scale
        loader = Loader(
            windows[which],
            options.batch,
            np.asarray(mean, np.float32),
            np.maximum(np.asarray(std, np.float32), LEAST_STD),
            study.method,
            seed,
            training=which == 0,
            length=drawable(study.lengths[length])[1],
            augment=which == 0 and isinstance(options, Finetune) and options.augment,
            share=(team.rank, team.size) if which == 0 else (0, 1),
        )
        return Feed(loader, device, readers(study.compute))

    return feed(0), feed(1)


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
