"""The loop of both trainings: steps, schedule, validation, best weights, early stop, resuming. Not: what is learnt."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.model.compute import Device, randomness
from stcln.study import Optimisation
from stcln.training.distributed import Team
from stcln.training.resume import Resume, Run

WARM_UP = 0.05  # of all steps


@dataclass(frozen=True)
class Step:
    """What a step gives: its loss, the tiles in it, and counts that are summed over the epoch.

    In a team the loss is this process's share, so that the sum of all is the batch's; tiles and counts are the batch's.
    """

    loss: Tensor
    tiles: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)


class Objective(Protocol):
    """What is learnt from what."""

    @property
    def network(self) -> nn.Module:
        """Whose weights are learnt."""

    device: Device
    higher: bool
    """Whether a higher validation score is better."""

    def __len__(self) -> int:
        """Steps in an epoch."""

    def step(self, epoch: int, step: int) -> Step:
        """The loss of a step, a function of (seed, epoch, step) and the weights."""

    def validate(self) -> float:
        """The validation score, in evaluation mode, the same in every process."""


@dataclass(frozen=True)
class Plan:
    """How a run goes.

    Attributes:
        optimisation: Epochs, schedule, clip.
        learning_rate: The highest.
        seed: Of dropout.
        patience: Early stop; None: never.
        before: Epochs of earlier runs of the stage, for progress.
        total: Epochs of all runs of the stage.
    """

    optimisation: Optimisation
    learning_rate: float
    seed: int
    patience: int | None = None
    before: int = 0
    total: int = 0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at a step of all `steps`: constant, or linear warm-up and a half cosine down to 0."""
        if self.optimisation.schedule == "constant":
            return self.learning_rate
        warm = max(1, round(WARM_UP * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def fit(objective: Objective, plan: Plan, resume: Resume, reporter: Reporter) -> Run:
    """Train with Adam; the network ends with the weights of the epoch that validated best, the first of equals.

    In a team the first process keeps the state of the run, and the others begin with what it took up.

    Raises:
        BadInput: A loss or a validation score is not finite.
    """
    network, epochs, team = objective.network, plan.optimisation.epochs, Team.here()
    if team.size > plan.optimisation.batch:
        reporter.note(f"{team.size} processes share batches of {plan.optimisation.batch}: some have nothing to do")
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
    run = resume.restore(network, optimiser) if team.leads else Run()
    run = _as_the_first(team, run, network, optimiser)
    while len(run.epochs) < epochs and not _tired(run, plan):
        record = _epoch(objective, optimiser, plan, len(run.epochs) + 1)
        run.epochs.append(record)
        if run.best_epoch == 0 or _better(record["validation"], run.validation, objective.higher):
            run.best_epoch = len(run.epochs)
            run.best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        if team.leads:
            resume.save(network, optimiser, run)
        values = {"loss": record["loss"], "validation": record["validation"]}
        reporter.progress("epoch", plan.before + len(run.epochs), plan.total or epochs, values)
    network.load_state_dict(run.best)
    return run


def _as_the_first(team: Team, run: Run, network: nn.Module, optimiser: torch.optim.Optimizer) -> Run:
    """The first process's run, with the weights and moments that belong to it."""
    if team.size == 1:
        return run
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    moments = {
        index: {name: tensor.cpu() for name, tensor in slot.items()}
        for index, slot in optimiser.state_dict()["state"].items()
    }
    run, weights, moments = team.told((run, weights, moments))
    network.load_state_dict(weights)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    return run


def _epoch(objective: Objective, optimiser: torch.optim.Optimizer, plan: Plan, epoch: int) -> dict[str, float | int]:
    network, steps, team = objective.network, len(objective), Team.here()
    losses: list[float] = []
    counts: Counter[str] = Counter()
    network.train()
    for index in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate((epoch - 1) * steps + index, plan.optimisation.epochs * steps)
        with randomness(objective.device.device, plan.seed, "step", epoch, index, *team.stream):
            step = objective.step(epoch, index)
        (loss,) = team.total(step.loss.item())
        losses.append(_finite(loss, "the loss", f"epoch {epoch}, step {index + 1}", step.tiles))
        optimiser.zero_grad()
        team.backward(step.loss)
        if plan.optimisation.clip:
            nn.utils.clip_grad_norm_(network.parameters(), plan.optimisation.clip)
        optimiser.step()
        counts.update(step.counts)
    network.eval()
    with torch.inference_mode():
        validation = _finite(objective.validate(), "the validation score", f"epoch {epoch}", ())
    return {"epoch": epoch, "loss": math.fsum(losses) / steps, "validation": validation, **counts}


def _finite(value: float, what: str, where: str, tiles: tuple[str, ...]) -> float:
    if math.isfinite(value):
        return value
    on = f" on tiles {', '.join(tiles)}" if tiles else ""
    raise BadInput(
        f"training, {where}", f"{what} is {value}{on}", "lower the learning rate, set clip, or reject the tiles"
    )


def _better(score: float, best: float, higher: bool) -> bool:
    return score > best if higher else score < best


def _tired(run: Run, plan: Plan) -> bool:
    return plan.patience is not None and len(run.epochs) - run.best_epoch >= plan.patience
