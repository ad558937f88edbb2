"""The loop of both trainings: steps, schedule, validation, best weights, early stop, resuming. Not: what is learnt."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.interrupt import Guard, stoppable
from stcln.model.compute import Device, randomness
from stcln.study import Optimisation
from stcln.training.distributed import Team
from stcln.training.memory import parts, ran_out, refusals_of_memory
from stcln.training.resume import Resume, Run

WARM_UP = 0.05  # of all steps
SAVE_EVERY = 300.0  # seconds between states saved within an epoch; when that happens changes no byte of the result


@dataclass(frozen=True)
class Step:
    """What a step learns from: a batch that has not been through the network yet.

    In a team the samples are this process's share of the batch; tiles and counts are the batch's.

    Attributes:
        loss: Of some of its samples: their share of the loss of the batch, so that those of all samples are its sum.
        samples: How many there are.
        tiles: Tile id of each sample.
        shape: [T,H,W].
        counts: Summed over the epoch.
    """

    loss: Callable[[slice], Tensor]
    samples: int
    tiles: tuple[str, ...]
    shape: tuple[int, ...]
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
        """What a step learns from, a function of (seed, epoch, step); its loss also of the weights."""

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

    The state is saved at every epoch's end, every `SAVE_EVERY` seconds and when a signal comes. In a team the first
    process keeps it, and the others begin with what that one took up.

    Raises:
        BadInput: A loss, a gradient or a validation score is not finite, or memory ran out; the states saved before
            stand, and the step at fault is in none of them.
    """
    network, team = objective.network, Team.here()
    if team.size > plan.optimisation.batch:
        reporter.note(f"{team.size} processes share batches of {plan.optimisation.batch}: some have nothing to do")
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
    with stoppable() as guard:
        guard.quiet = not team.leads
        run = resume.restore(network, optimiser) if team.leads else Run()
        run = _as_the_first(team, run, network, optimiser)
        training = _Training(objective, plan, resume, reporter, guard, optimiser, run)
        with guard.saving(training.save):
            while len(run.epochs) < plan.optimisation.epochs and not _tired(run, plan):
                training.epoch()
    network.load_state_dict(run.best)
    return run


@dataclass
class _Training:
    """A run in its process: the network and Adam as they are, and the run that says which step they have done."""

    objective: Objective
    plan: Plan
    resume: Resume
    reporter: Reporter
    guard: Guard
    optimiser: torch.optim.Optimizer
    run: Run

    def __post_init__(self) -> None:
        self.network, self.device, self.team = self.objective.network, self.objective.device.device, Team.here()
        self.buffers = dict(self.network.named_buffers())
        self.run.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        if self.plan.optimisation.accumulate != "auto":
            self.run.parts = self.plan.optimisation.accumulate
        self.saved = time.monotonic()

    def save(self) -> None:
        """Save the state as it was after the last whole step; the guard must see to it that no step is half done."""
        if self.team.leads:
            self.resume.save(self.network, self.optimiser, self.run)
        self.saved = time.monotonic()

    def epoch(self) -> None:
        """Do what is left of an epoch, validate, and save."""
        run, steps, options = self.run, len(self.objective), self.plan.optimisation
        name = f"epoch {len(run.epochs) + 1}"
        self.network.train()
        for index in range(len(run.losses), steps):
            with refusals_of_memory(f"{name}, step {index + 1}", options):
                self.step(index)
            if time.monotonic() - self.saved >= SAVE_EVERY:
                with self.guard.whole():
                    self.save()
        self.network.eval()
        with torch.inference_mode(), refusals_of_memory(f"{name}, validation", options):
            validation = _finite(self.objective.validate(), "the validation score", name, ())
        record = {"epoch": len(run.epochs) + 1, "loss": math.fsum(run.losses) / steps, "validation": validation}
        if options.accumulate != 1:
            record["accumulate"] = run.parts
        with self.guard.whole():
            self._close(record | run.counts)
            self.save()
        values = {"loss": record["loss"], "validation": validation}
        self.reporter.progress("epoch", self.plan.before + len(run.epochs), self.plan.total or options.epochs, values)

    def _close(self, record: dict[str, Any]) -> None:
        run = self.run
        run.epochs.append(record)
        run.losses, run.counts = [], {}
        if run.best_epoch == 0 or _better(record["validation"], run.validation, self.objective.higher):
            run.best_epoch = len(run.epochs)
            run.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def step(self, index: int) -> None:
        """Do one step. Weights, moments and what the run says of them change together, in the end."""
        run, steps, epoch = self.run, len(self.objective), len(self.run.epochs) + 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate((epoch - 1) * steps + index, self.plan.optimisation.epochs * steps)
        step = self.objective.step(epoch, index)
        loss = self._gradients(step, epoch, index)
        with self.guard.whole():
            self.optimiser.step()
            run.losses.append(loss)
            for name, count in step.counts.items():
                run.counts[name] = run.counts.get(name, 0) + count
            for name, buffer in self.buffers.items():
                run.buffers[name].copy_(buffer)

    def _gradients(self, step: Step, epoch: int, index: int) -> float:
        """Loss of a step, its gradients in place; with `accumulate: auto` in more parts whenever memory runs out."""
        run, options, where = self.run, self.plan.optimisation, f"epoch {epoch}, step {index + 1}"
        while True:
            try:
                with randomness(self.device, self.plan.seed, "step", epoch, index, *self.team.stream):
                    values = self._through(step)
                break
            except (MemoryError, RuntimeError) as error:
                with refusals_of_memory(where, options, (len(step.tiles), *step.shape), run.parts):
                    if self._at_its_last(step) or not ran_out(error):
                        raise
            self._more_parts(where)
        names = ("the loss", "the gradients' norm", "the largest of BatchNorm's statistics")
        for value, name in zip(values, names, strict=True):
            _finite(value, name, where, step.tiles)
        return values[0]

    def _through(self, step: Step) -> list[float]:
        """Gradients of a step, clipped; its loss, their norm, and the largest of the buffers.

        The three are read together, after the last backward pass and before the update: the one moment in a step at
        which the host waits for a CUDA device. Read a step later they would leave an update to take back.
        """
        self.optimiser.zero_grad()
        loss = torch.zeros((), device=self.device)
        for samples in parts(step.samples, self._parts(step)):
            part = step.loss(samples)
            self.team.backward(part)
            loss += part.detach()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if clip := self.plan.optimisation.clip:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), clip, norm)
        moving = [buffer for buffer in self.buffers.values() if buffer.is_floating_point()]
        largest = nn.utils.get_total_norm(moving, norm_type=math.inf)
        own, *others = torch.stack([loss, norm, largest]).tolist()
        return [*self.team.total(own), *others]

    def _parts(self, step: Step) -> int:
        """As many in every process of a team, whose shares differ by a sample: their BatchNorms wait for each other."""
        return min(self.run.parts, max(1, len(step.tiles) // self.team.size))

    def _at_its_last(self, step: Step) -> bool:
        """Whether smaller parts are no help; a process of a team cannot take a step anew by itself."""
        alone = self.team.size == 1
        return not alone or self.plan.optimisation.accumulate != "auto" or self.run.parts >= step.samples

    def _more_parts(self, where: str) -> None:
        """Take up a step anew in twice as many parts, as if it had not been tried."""
        for name, buffer in self.buffers.items():
            buffer.copy_(self.run.buffers[name])
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.run.parts *= 2
        message = f"memory ran out in {where}: batches go through the network in more parts from here on"
        self.reporter.note(message, {"parts": self.run.parts})


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
