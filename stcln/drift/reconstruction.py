"""How well the pre-trained encoder fills in what is hidden of a season that it was not trained on, tile by tile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stcln.data.lengths import choose
from stcln.data.series import Series
from stcln.data.splits import Selection, select
from stcln.data.store import SeasonStore
from stcln.drift.tiles import some
from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.model.checkpoint import Card, load_reconstructor
from stcln.model.compute import Device, generator, pick
from stcln.model.masking import draw, vegetation
from stcln.model.network import Reconstructor, reconstruction_loss
from stcln.model.windows import normalise
from stcln.storage import read_json
from stcln.study import Method, Study
from stcln.workspace import Workspace

BATCH = 4  # windows at once


def reconstruct(
    workspace: Workspace, mine: SeasonStore, theirs: Sequence[SeasonStore], reporter: Reporter
) -> dict[str, Any] | None:
    """Compare the encoder's error on a season with that on the held-out tiles of the seasons it was trained on.

    The error of a tile is the mean squared one over its hidden pixels, normalised bands, under seeded masks drawn as in
    pre-training. Series end on the day of the season (counted from its start) on which the newest image was taken: with
    fewer dates less can be filled in, whatever the season.

    Returns:
        ratio: the median over tiles of the season, over that of the others; tiles and quartiles of both; `beyond`, the
        share of the season's tiles whose error is above the others' largest. None where either side has no tile
        that was held out, or none with a date that is green enough to be hidden, as in winter.

    Raises:
        BadInput: There is no encoder, or it does not fit the season.
    """
    study, device = workspace.study, pick(workspace.study.compute)
    network, card = load_reconstructor(workspace.pretrained, device.device)
    held_out = set(read_json(workspace.pretrained / "history.json").get("held_out", ()))
    filling = _Filling(network, card, study, device, mine.last_image - mine.start)
    errors: dict[str, list[float]] = {}
    for store in (mine, *theirs):
        if store.bands != card.bands:
            problem = f"its bands {list(store.bands)} are not the encoder's {list(card.bands)}"
            raise BadInput(f"season {store.season}", problem, "name them in dataset.bands and prepare again")
        windows = _by_tile(store, study, reporter)
        if store.season in study.pretrain.seasons:
            windows = {tile: found for tile, found in windows.items() if store.ids[tile] in held_out}
        errors[store.season] = list(filling.errors(store, windows, reporter))
    own, usual = errors.pop(mine.season), [error for found in errors.values() for error in found]
    if not own or not usual:
        return None
    return {
        "ratio": round(median(own) / median(usual), 4), "season": _spread(own), "others": _spread(usual),
        "beyond": round(sum(error > max(usual) for error in own) / len(own), 4),
    }  # fmt: skip


@dataclass(frozen=True)
class _Filling:
    """A pre-trained network that fills in tiles as in pre-training, up to so many days after a season's start."""

    network: Reconstructor
    card: Card
    study: Study
    device: Device
    days: timedelta

    def errors(
        self, store: SeasonStore, windows: Mapping[int, Sequence[Selection]], reporter: Reporter
    ) -> Iterator[float]:
        """The error of every tile of which something can be hidden."""
        tiles = some(list(windows), store.season, self.study.seed)
        for done, tile in enumerate(tiles, 1):
            total, pixels = 0.0, 0
            for first in range(0, len(windows[tile]), BATCH):
                error, hidden = self._error(store, windows[tile][first : first + BATCH], first)
                total, pixels = total + error * hidden, pixels + hidden
            reporter.progress(f"tile of {store.season} filled in", done, len(tiles))
            if pixels:
                yield total / pixels

    def _error(self, store: SeasonStore, windows: Sequence[Selection], first: int) -> tuple[float, int]:
        """Mean squared error over the hidden pixels of some windows of a tile, and how many these are."""
        method = Method.model_validate(self.card.method)
        series = [found for one in windows if (found := self._read(store, one, method))]
        if not series:
            return 0.0, 0
        reflectance, valid, positions = (
            torch.from_numpy(np.stack(part)).to(self.device.device)
            for part in zip(*((one.reflectance, one.valid, one.positions(method)) for one in series), strict=True)
        )
        images, mask = normalise(reflectance, self.card.mean, self.card.std), self.study.pretrain.mask
        green = vegetation(images if method.vegetation == "normalised" else reflectance, self.card.bands, mask.ndvi)
        rng = generator(self.study.seed, "drift", store.season, store.ids[windows[0].tile], first)
        hidden, counts = draw(mask.kind, mask.ratio, green, valid, mask.vegetation, rng)
        with torch.inference_mode(), self.device.autocast():
            predicted: Tensor = self.network(images, positions, hidden, valid)
        return float(reconstruction_loss(predicted, images, hidden)), counts.hidden

    def _read(self, store: SeasonStore, one: Selection, method: Method) -> Series | None:
        """A window at the dates of the pre-training's length, as far as the season has come; None before its first."""
        every = store.dates(one.tile)
        seen = every[every <= np.datetime64(store.start + self.days)]
        if not len(seen):
            return None
        length = self.study.lengths[self.study.pretrain.length]
        kept = choose(seen, length, store.season)
        images, valid = store.read_images(one.tile, kept, (one.y, one.x, one.size))
        valid = np.ones_like(valid) if method.clouds == "seen" else valid
        labels = np.empty(0, np.uint8)
        return Series(store.ids[one.tile], store.season, store.start, seen[kept], images, valid, labels)


def _by_tile(store: SeasonStore, study: Study, reporter: Reporter) -> dict[int, list[Selection]]:
    windows: dict[int, list[Selection]] = {}
    for one in select(store, study, "pretrain", reporter):
        windows.setdefault(one.tile, []).append(one)
    return windows


def _spread(errors: list[float]) -> dict[str, Any]:
    low, middle, high = quantiles(errors, n=4, method="inclusive") if len(errors) > 1 else errors * 3
    return {"tiles": len(errors), "quartiles": [round(value, 5) for value in (low, middle, high)]}
