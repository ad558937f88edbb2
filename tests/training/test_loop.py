"""The loop's rules, on a network of one weight."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.compute import Device
from stcln.study import Finetune
from stcln.training import loop
from stcln.training.loop import Plan, Step, fit
from stcln.training.resume import Resume


class Scripted:
    """Pulls one weight upwards; validates to the scores it is given."""

    def __init__(self, scores: list[float], *, higher: bool = True, losses: list[float] | None = None) -> None:
        self.network: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.device = Device(torch.device("cpu"), torch.float32)
        self.higher, self.scores, self.losses = higher, iter(scores), iter(losses or [])
        self.weights: list[float] = []

    def __len__(self) -> int:
        return 2

    def step(self, epoch: int, step: int) -> Step:
        scale = next(self.losses, 1.0)
        counts = {"masked_pixels": 5}
        return Step(lambda _: -scale * self.network.weight.sum(), 1, ("north", "south"), (6, 8, 8), counts)

    def validate(self) -> float:
        self.weights.append(self.network.weight.item())
        return next(self.scores)


def run(tmp_path: Path, objective: Scripted, **options):
    patience = options.pop("patience", None)
    plan = Plan(Finetune(**{"batch": 1, **options}), 0.1, 1, patience)
    return fit(objective, plan, Resume(tmp_path / "state", "me", Silent()), Silent())


def test_the_weights_of_the_best_epoch_are_kept_the_first_of_equals(tmp_path: Path):
    objective = Scripted([0.1, 0.7, 0.7, 0.2])
    done = run(tmp_path, objective, epochs=4)
    assert done.best_epoch == 2 and done.validation == 0.7
    assert objective.network.weight.item() == objective.weights[1] != objective.weights[2]


def test_where_lower_is_better_the_lowest_score_wins(tmp_path: Path):
    assert run(tmp_path, Scripted([0.5, 0.3, 0.4], higher=False), epochs=3).best_epoch == 2


def test_training_stops_when_patience_is_at_an_end(tmp_path: Path):
    assert len(run(tmp_path, Scripted([0.1, 0.5, 0.4, 0.5, 0.9]), epochs=5, patience=2).epochs) == 4


def test_counts_are_summed_over_an_epoch(tmp_path: Path):
    done = run(tmp_path, Scripted([0.1, 0.2]), epochs=2)
    assert [record["masked_pixels"] for record in done.epochs] == [10, 10]


def test_a_loss_that_is_not_finite_ends_in_a_sentence_with_step_and_tiles(tmp_path: Path):
    with pytest.raises(BadInput, match="epoch 2, step 1: the loss is nan on tiles north, south; lower"):
        run(tmp_path, Scripted([0.1, 0.2], losses=[1.0, 1.0, math.nan]), epochs=2)


class Poisoned(Scripted):
    """A step whose loss is finite; from the third on its gradient, or what it leaves in a buffer, is not."""

    def __init__(self, what: str) -> None:
        super().__init__([0.1, 0.2, 0.3])
        self.what, self.steps = what, 0
        self.network.register_buffer("running", torch.zeros(1))

    def step(self, epoch: int, step: int) -> Step:
        self.steps += 1
        return Step(self.loss, 1, ("north", "south"), (6, 8, 8))

    def loss(self, _: slice) -> torch.Tensor:
        if self.steps < 3:
            return -self.network.weight.sum()
        if self.what == "gradient":
            return (self.network.weight * 0).sum().sqrt()
        self.network.running.fill_(math.inf)
        return -self.network.weight.sum()


@pytest.mark.parametrize(
    ("what", "named"), [("gradient", "the gradients' norm is nan"), ("buffer", "BatchNorm's statistics is inf")]
)
def test_what_is_not_finite_never_reaches_weights_or_state(tmp_path: Path, what: str, named: str):
    objective = Poisoned(what)
    with pytest.raises(BadInput, match=f"epoch 2, step 1: .*{named} on tiles north, south; lower"):
        run(tmp_path, objective, epochs=3)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["000001-00000000"]
    assert objective.network.weight.item() == objective.weights[0]


def test_a_signal_after_a_step_that_is_not_finite_saves_the_one_before_it(tmp_path: Path, monkeypatch):
    """As one that comes while its sentence is made."""
    objective = Poisoned("buffer")
    monkeypatch.setattr(loop, "_finite", lambda value, *_: value if math.isfinite(value) else _interrupted())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, objective, epochs=3)
    state = load_file(tmp_path / "state/000001-00000000/weights.safetensors")
    assert state["running"].item() == 0 and state["weight"].item() == objective.weights[0]


def _interrupted() -> float:
    raise KeyboardInterrupt


def test_a_validation_score_that_is_not_finite_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="epoch 1: the validation score is inf"):
        run(tmp_path, Scripted([math.inf]), epochs=1)


def test_the_cosine_schedule_warms_up_and_falls_to_nothing():
    plan = Plan(Finetune(schedule="cosine"), 0.1, 1)
    rates = [plan.rate(step, 100) for step in range(100)]
    assert rates[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] < 1e-4


def test_the_constant_schedule_is_constant():
    plan = Plan(Finetune(schedule="constant"), 0.1, 1)
    assert {plan.rate(step, 100) for step in range(100)} == {0.1}


def test_the_gradient_is_clipped_to_the_largest_norm(tmp_path: Path):
    clipped = Scripted([0.1], losses=[100.0, 100.0])
    run(tmp_path, clipped, epochs=1, clip=0.5)
    assert clipped.network.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)
