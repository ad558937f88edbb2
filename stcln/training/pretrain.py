"""Pre-training: the encoder learns to fill in what a mask hides. No label is read."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stcln.data.loader import Batch
from stcln.data.samples import Sample, held, unlabelled
from stcln.data.series import drawable
from stcln.data.splits import Selection, check_disjoint, select
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.interrupt import stoppable
from stcln.model.checkpoint import Card, save, save_head
from stcln.model.compute import Device, generator, pick
from stcln.model.cost import parameters
from stcln.model.masking import Share, draw, vegetation
from stcln.model.network import Config, Reconstructor, build_reconstructor, reconstruction_loss
from stcln.stages import write_lineage
from stcln.storage import whole_directory, write_json
from stcln.study import Study
from stcln.training import spent
from stcln.training.distributed import Team
from stcln.training.feed import Feed, card, feeds
from stcln.training.loop import Plan, Step, fit
from stcln.training.resume import Run, Stage
from stcln.workspace import Workspace

HELD_OUT = 0.1  # of the tiles, for validation
ATTEMPTS = 50  # batches drawn until one has something to hide


@dataclass
class Filling:
    """The objective: mean squared error over hidden pixels; on held-out tiles, under masks that stay the same."""

    network: Reconstructor
    training: Feed
    validation: Feed
    study: Study
    bands: tuple[str, ...]
    device: Device
    higher = False

    def __post_init__(self) -> None:
        self.team = Team.here()
        self.spread = self.team.spread(self.network)

    def __len__(self) -> int:
        return len(self.training)

    def step(self, epoch: int, step: int) -> Step:
        """A batch, its loss the mean over hidden pixels; one without any is drawn again, other samples and all."""
        for attempt in range(ATTEMPTS):
            batch = self.training.batch(epoch, step, attempt)
            share = Share(batch.first, len(batch.tiles), self.team.total)
            hidden, masked = self.hide(batch, "training", epoch, step, attempt, share=share)
            if masked or self.study.method.empty_mask == "step":
                counts = {"masked_pixels": masked, "redrawn": attempt}
                loss = partial(self._loss, batch, hidden, masked)
                return Step(loss, len(batch.valid), batch.tiles, tuple(batch.valid.shape[1:]), counts)
        raise self._nothing("training")

    def _loss(self, batch: Batch, hidden: torch.Tensor, masked: int, samples: slice) -> torch.Tensor:
        self.team.sit_out(self.network, now=batch.blank)
        part, mask = batch.part(samples).to(self.device.device), hidden[samples].to(self.device.device)
        return reconstruction_loss(self.predict(part, mask), part.images, mask, masked)

    def validate(self) -> float:
        """Loss on the held-out windows."""
        total, pixels, steps = 0.0, 0, self.team.turns(len(self.validation))
        with closing(self.validation.epoch(0, steps)) as batches:
            for step, batch in zip(steps, (batch.to(self.device.device) for batch in batches), strict=True):
                hidden, masked = self.hide(batch, "validation", step)
                total += float(reconstruction_loss(self.predict(batch, hidden), batch.images, hidden)) * masked
                pixels += masked
        (total,), (pixels,) = self.team.total(total), self.team.total(pixels)
        if not pixels:
            raise self._nothing("held-out")
        return total / pixels

    def hide(self, batch: Batch, *stream: int | str, share: Share | None = None) -> tuple[torch.Tensor, int]:
        """Bool [B,T,H,W], true = HIDDEN, never a pixel that was not seen; and how many pixels of the batch that are."""
        mask, method = self.study.pretrain.mask, self.study.method
        images = batch.images if method.vegetation == "normalised" else batch.reflectance
        green, rng = vegetation(images, self.bands, mask.ndvi), generator(self.study.seed, "mask", *stream)
        redraw = method.empty_mask == "redraw"
        hidden, counts = draw(mask.kind, mask.ratio, green, batch.valid, mask.vegetation, rng, redraw, share)
        return hidden, counts.hidden

    def predict(self, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """The network's [B,T,C,H,W], normalised."""
        with self.device.autocast():
            predicted: torch.Tensor = self.spread(batch.images, batch.positions, hidden, batch.valid)
        return predicted

    def _nothing(self, which: str) -> BadInput:
        return BadInput(
            "params.yaml, field pretrain.mask.vegetation", f"no date of the {which} tiles is green enough to be masked",
            "lower it or pretrain.mask.ndvi, or set 0 to mask any date",
        )  # fmt: skip


@stoppable()
def pretrain(workspace: Workspace, reporter: Reporter) -> dict[str, Value]:
    """Pre-train the encoder on the seasons of `pretrain.seasons` into `models/pretrained/`.

    A seeded tenth of the tiles, at least one, is held out in every season; the weights with the lowest reconstruction
    loss on it win. The encoder's card keeps the statistics that its images were normalised with: those of the seasons'
    stores, pooled.

    Raises:
        BadInput: Seasons do not fit together, a test tile would be trained on, there is only one tile, nothing can be
            masked, a loss or a gradient is not finite, or memory runs out.
    """
    study = workspace.study
    stores = [SeasonStore.open(workspace.season(season)) for season in study.pretrain.seasons]
    check_disjoint(study, stores)
    windows = _windows(stores, study, reporter)
    stage = Stage.open(workspace, "pretrain", reporter)
    objective, described = _objective(study, stores, windows)
    plan = Plan(study.pretrain, study.pretrain.learning_rate, study.seed)
    with closing(objective.training):
        run = fit(objective, plan, stage.run(study.seed), reporter)
    if stage.team.leads:
        _write(workspace, run, objective, described, windows)
    stage.close(workspace.pretrained)
    return _summary(run, objective)


def _write(
    workspace: Workspace, run: Run, objective: Filling, described: Card, windows: tuple[list[Sample], list[Sample]]
) -> None:
    """Write encoder, head, card, history, a sample and lineage."""
    with whole_directory(workspace.pretrained) as part:
        save(part, objective.network.encoder, described)
        save_head(part, objective.network)
        write_json(
            part / "history.json",
            {
                "epochs": run.epochs, "best_epoch": run.best_epoch, "masked_pixels": _masked(run),
                "seed": workspace.study.seed, "windows": len(windows[0]),
                "held_out": sorted({window.tile for window in windows[1]}),
                "multiply_adds": spent.multiply_adds(
                    described, objective.training, objective.validation, len(run.epochs)
                ),
            },
        )  # fmt: skip
        _sample(part / "sample.npz", objective)
        write_lineage(part, workspace, "pretrain")


def _masked(run: Run) -> int:
    return sum(record["masked_pixels"] for record in run.epochs)


def _summary(run: Run, objective: Filling) -> dict[str, Value]:
    return {
        "validation": run.validation, "best_epoch": run.best_epoch, "epochs": len(run.epochs),
        "masked_pixels": _masked(run),
        "redrawn": sum(record["redrawn"] for record in run.epochs), "windows": len(objective.training.loader.windows),
        "parameters": parameters(objective.network),
    }  # fmt: skip


def _windows(stores: Sequence[SeasonStore], study: Study, reporter: Reporter) -> tuple[list[Sample], list[Sample]]:
    """(training, validation): the same tiles are held out in every season, and always cut on the grid."""
    for store in stores[1:]:
        if store.bands != stores[0].bands:
            raise BadInput(
                f"season {store.season}", f"bands {list(store.bands)} are not those of {stores[0].season}",
                "name the common ones in dataset.bands and prepare again",
            )  # fmt: skip
    rule, random = drawable(study.lengths[study.pretrain.length])[0], study.pretrain.crops == "random"
    picked = [(store, select(store, study, "pretrain", reporter)) for store in stores]
    out = _held_out({store.ids[one.tile] for store, selections in picked for one in selections}, study.seed)
    found: tuple[list[Sample], list[Sample]] = [], []
    for store, selections in picked:
        sides: tuple[list[Selection], list[Selection]] = [], []
        for one in selections:
            sides[store.ids[one.tile] in out].append(one)
        found[0].extend(unlabelled(store, sides[0], rule, study.method, random=random))
        found[1].extend(unlabelled(store, sides[1], rule, study.method, random=False))
    every = held([*found[0], *found[1]], study.loading.memory)
    return every[: len(found[0])], every[len(found[0]) :]


def _held_out(tiles: set[str], seed: int) -> set[str]:
    """A seeded tenth of the tiles, at least one."""
    if len(tiles) < 2:
        raise BadInput(
            "params.yaml, field splits.pretrain", f"{len(tiles)} tile", "give it two or more: one is held out"
        )
    order = np.random.default_rng(seed).permutation(len(tiles))
    return {sorted(tiles)[i] for i in order[: max(1, round(HELD_OUT * len(tiles)))]}


def _pooled(stores: Sequence[SeasonStore]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation [C] over seasons of equal weight."""
    means, deviations = (np.stack([getattr(s, name) for s in stores]).astype(np.float64) for name in ("mean", "std"))
    mean = means.mean(0)
    deviation = np.sqrt((deviations**2 + means**2).mean(0) - mean**2)
    return mean.astype(np.float32), deviation.astype(np.float32)


def _objective(
    study: Study, stores: Sequence[SeasonStore], windows: tuple[list[Sample], list[Sample]]
) -> tuple[Filling, Card]:
    length, bands, device = study.pretrain.length, stores[0].bands, pick(study.compute)
    network = build_reconstructor(Config.of(study.model.size, len(bands)), study.seed).to(device.device)
    training, validation = feeds(study, study.pretrain, length, windows, _pooled(stores), study.seed, device)
    described = card(study, stores[0], training.loader, length, study.seed, "+".join(study.pretrain.seasons))
    return Filling(network, training, validation, study, bands, device), described


def _sample(path: Path, objective: Filling) -> None:
    """A held-out window, what was hidden of it and what was made of that: reflectance in 0 to 1, dates in days."""
    objective.network.eval()
    for window in objective.validation.loader.windows:
        alone = replace(objective.validation.loader, windows=(window,))
        batch = alone.batch(0, 0).to(objective.device.device)
        hidden, masked = objective.hide(batch, "sample")
        if masked:
            break
    with torch.inference_mode():
        predicted = objective.predict(batch, hidden)[0].cpu()
    mean, std = (torch.from_numpy(values)[:, None, None] for values in (alone.mean, alone.std))
    dated = replace(alone, method=alone.method.model_copy(update={"positions": "days"}))
    np.savez_compressed(
        path,
        images=(batch.reflectance[0] / 10_000).cpu().numpy(),
        reconstruction=((predicted * std + mean) / 10_000).numpy(),
        hidden=hidden[0].cpu().numpy(),
        dates=dated.batch(0, 0).positions[0].numpy(),
        valid=batch.valid[0].cpu().numpy(),
        tile=window.tile,
    )
