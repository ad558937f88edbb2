"""Fine-tuning of a cell: one season, one length, one arm, several seeds."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stcln.data.loader import Batch
from stcln.data.samples import Sample, held, labelled
from stcln.data.series import drawable
from stcln.data.splits import RoleName, check_disjoint, select
from stcln.data.store import SeasonStore
from stcln.data.tile import VOID
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.interrupt import stoppable
from stcln.model.checkpoint import Card, load_encoder, save
from stcln.model.compute import Device, pick
from stcln.model.cost import parameters
from stcln.model.encoder import Encoder
from stcln.model.network import STCLN, Config, build
from stcln.stages import finetune_stage, write_lineage
from stcln.storage import whole_directory, write_json
from stcln.study import Study
from stcln.training import labels, spent
from stcln.training.distributed import Team
from stcln.training.feed import Feed, card, feeds
from stcln.training.loop import Plan, Step, fit
from stcln.training.resume import Run, Stage
from stcln.workspace import Workspace


@dataclass
class Classifying:
    """The objective: cross entropy over labelled pixels; validation is the overall accuracy, as published."""

    network: STCLN
    training: Feed
    validation: Feed
    device: Device
    higher = True

    def __post_init__(self) -> None:
        self.team = Team.here()
        self.spread = self.team.spread(self.network)

    def __len__(self) -> int:
        return len(self.training)

    def step(self, epoch: int, step: int) -> Step:
        """A batch; its loss is the mean over its labelled pixels."""
        batch = self.training.batch(epoch, step)
        (labelled,) = self.team.total(int((batch.labels != VOID).sum()))
        return Step(partial(self._loss, batch, labelled), len(batch.labels), batch.tiles, tuple(batch.valid.shape[1:]))

    def _loss(self, batch: Batch, labelled: int, samples: slice) -> torch.Tensor:
        self.team.sit_out(self.network, now=batch.blank)
        part = batch.part(samples).to(self.device.device)
        return cross_entropy(self.predict(part), part.labels, ignore_index=VOID, reduction="sum") / labelled

    def validate(self) -> float:
        """Share of the labelled validation pixels classified rightly."""
        right = pixels = 0
        with closing(self.validation.epoch(0, self.team.turns(len(self.validation)))) as batches:
            for batch in (batch.to(self.device.device) for batch in batches):
                known = batch.labels != VOID
                right += int((self.predict(batch).argmax(1) == batch.labels)[known].sum())
                pixels += int(known.sum())
        right, pixels = self.team.total(right, pixels)
        return right / pixels

    def predict(self, batch: Batch) -> torch.Tensor:
        """Logits float32 [B,K,H,W]."""
        with self.device.autocast():
            logits: torch.Tensor = self.spread(batch.images, batch.positions, batch.valid)
        return logits.float()


@dataclass(frozen=True)
class Cell:
    """What the seeds of a cell share.

    Attributes:
        store: The season.
        rule: The length.
        arm: Name of the arm.
        training: Windows of the training tiles, ignored classes out.
        validation: Windows of the validation tiles.
        encoder: Pre-trained network and its card, for an arm that starts from it.
    """

    study: Study
    store: SeasonStore
    length: str
    arm: str
    training: list[Sample]
    validation: list[Sample]
    encoder: tuple[Encoder, Card] | None

    @classmethod
    def read(cls, workspace: Workspace, season: str, length: str, arm: str, reporter: Reporter) -> "Cell":
        """Read the labels of a cell's windows, and the encoder where the arm wants it."""
        study, store = workspace.study, SeasonStore.open(workspace.season(season))
        check_disjoint(study, [store])
        rule = drawable(study.lengths[length])[0]

        def windows(role: RoleName) -> list[Sample]:
            read = labelled(store, select(store, study, role, reporter), rule, study.method)
            found = labels.labelled(labels.scored(read, store.ignore))
            if not found:
                where = f"season {season}, splits.{role}"
                problem = "no labelled pixel of a scored class"
                raise BadInput(where, problem, "give it more tiles, or check dataset.ignore")
            return found

        encoder = _encoder(workspace, store) if arm in study.cells.pretrained else None
        validation = [] if study.finetune.folds else windows("validation")
        every = held([*validation, *windows("train")], study.loading.memory)
        return cls(study, store, length, arm, every[len(validation) :], every[: len(validation)], encoder)

    def split(self, seed: int) -> tuple[list[Sample], list[Sample]]:
        """(training, validation) of a seed: the arm's share of the labels, and where the score comes from."""
        training = labels.labelled(labels.share(self.training, self.study.arms[self.arm].labels, seed))
        if folds := self.study.finetune.folds:
            return labels.fold(training, folds, seed - self.study.seed, self.study.seed)
        return training, self.validation


@stoppable()
def finetune(workspace: Workspace, season: str, length: str, arm: str, reporter: Reporter) -> dict[str, Value]:
    """Train a cell's models, one a seed, into `models/finetuned/<season>/<length>/<arm>/seed-<n>/`.

    Images are normalised with the pre-trained encoder's statistics where the arm starts from it, else with the season
    store's, and the card keeps them (`statistics: split`: with those of the training windows, and validation with its
    own). Seed i is `study.seed + i`: it draws initial weights, order, augmentation, dropout and the labelled pixels.
    The epoch with the best overall accuracy on the validation tiles wins, or with `finetune.folds` on the held-back
    tiles of the training labels.

    Args:
        workspace: Where the season store and the encoder are.
        season: One of `cells.season`.
        length: One of `cells.length`.
        arm: One of `cells.scratch` or `cells.pretrained`.
        reporter: Is told every epoch.

    Raises:
        BadInput: The cell is not in the study, a test tile would be trained on, nothing is labelled, the encoder does
            not fit, a loss or a gradient is not finite, or memory runs out.
    """
    study, keys = workspace.study, {"season": season, "length": length, "arm": arm}
    study.check_cell(**keys)
    name = finetune_stage(study, arm)
    cell = Cell.read(workspace, season, length, arm, reporter)
    stage = Stage.open(workspace, name, reporter, **keys)
    trained = [_train(cell, study.seed + index, stage, reporter) for index in range(study.finetune.seeds)]
    output = workspace.finetuned(season, length, arm)
    if stage.team.leads:
        with whole_directory(output) as part:
            for one in trained:
                one.write(part / f"seed-{one.card.seed}")
            write_lineage(part, workspace, name, **keys)
    stage.close(output)
    return {
        "validation": float(np.mean([one.run.validation for one in trained])),
        "best_epoch": ", ".join(str(one.run.best_epoch) for one in trained),
        "labelled_pixels": sum(trained[0].history["labelled"].values()), "seeds": len(trained),
        "windows": trained[0].history["windows"], "parameters": parameters(trained[0].network),
    }  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a seed gives: the network of the best epoch, its card, the run, and the history to write."""

    network: STCLN
    card: Card
    run: Run
    history: dict[str, Any]

    def write(self, directory: Path) -> None:
        """Write weights, card and history into a new directory."""
        directory.mkdir()
        save(directory, self.network, self.card)
        write_json(directory / "history.json", self.history)


def _train(cell: Cell, seed: int, stage: Stage, reporter: Reporter) -> Trained:
    study, options = cell.study, cell.study.finetune
    training, validation = cell.split(seed)
    objective, described = _objective(cell, (training, validation), seed)
    rate = study.arms[cell.arm].learning_rate or options.learning_rate
    before = options.epochs * (seed - study.seed)
    plan = Plan(options, rate, seed, options.patience, before, options.epochs * options.seeds)
    with closing(objective.training):
        run = fit(objective, plan, stage.run(seed), reporter)
    counts = labels.count(training, len(described.classes))
    history = {
        "epochs": run.epochs, "best_epoch": run.best_epoch, "seed": seed, "windows": len(training),
        "labelled": {name: int(n) for name, n in zip(described.classes, counts, strict=True) if n},
        "selection": selection(study), "validation_pixels": int(labels.count(validation, len(described.classes)).sum()),
        "multiply_adds": spent.multiply_adds(described, objective.training, objective.validation, len(run.epochs)),
    }  # fmt: skip
    return Trained(objective.network, described, run, history)


def selection(study: Study) -> str:
    """How the best epoch is chosen, in words for the report."""
    if study.finetune.folds:
        return f"overall accuracy on 1/{study.finetune.folds} of the labelled training tiles, held back"
    return "overall accuracy on the validation tiles, all of whose labels are used"


def _objective(cell: Cell, windows: tuple[list[Sample], list[Sample]], seed: int) -> tuple[Classifying, Card]:
    study, store = cell.study, cell.store
    source, device = store if cell.encoder is None else cell.encoder[1], pick(study.compute)
    scale = (source.mean, source.std)
    training, validation = feeds(study, study.finetune, cell.length, windows, scale, seed, device)
    network = build(Config.of(study.model.size, len(store.bands), len(store.classes)), seed)
    if cell.encoder is not None:
        network.encoder.load_state_dict(cell.encoder[0].state_dict())
    described = card(study, store, training.loader, cell.length, seed)
    return Classifying(network.to(device.device), training, validation, device), described


def _encoder(workspace: Workspace, store: SeasonStore) -> tuple[Encoder, Card]:
    encoder, card = load_encoder(workspace.pretrained)
    size = workspace.study.model.size
    if card.size != size or card.bands != store.bands:
        raise BadInput(
            workspace.pretrained / "card.json",
            f"size {card.size} with bands {list(card.bands)} does not fit size {size} with bands {list(store.bands)}",
            "run `python -m stcln pretrain` again",
        )
    return encoder, card
