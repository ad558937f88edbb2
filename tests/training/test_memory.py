"""Memory that runs out ends in a sentence, or makes batches go through the network in smaller parts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import Scripted, run
from test_resume import BreaksOff, Broken, run_finetune, run_pretrain
from tiny_study import restudy

from stcln.data.loader import Loader
from stcln.errors import BadInput
from stcln.model.encoder import Encoder
from stcln.storage import digest, read_json
from stcln.study import Finetune
from stcln.training.loop import Step
from stcln.training.memory import parts, refusals_of_memory
from stcln.workspace import Workspace

HUGE = 1 << 46  # bytes, which no machine gives: the errors are the allocators' own


def torchs() -> None:
    torch.empty(HUGE, dtype=torch.uint8)


def numpys() -> None:
    np.empty(HUGE << 8, np.uint8)


def cudas() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function: from forward pass number `since` on, memory runs out in training batches of more samples."""
    honest, passes = Encoder.forward, []

    def limit(samples: int, since: int = 0, fail: Callable[[], None] = torchs, late: bool = False) -> None:
        def forward(self, images, *rest):
            passes.append(len(images))
            tight = self.training and len(images) > samples and len(passes) > since
            if tight and not late:
                fail()
            features = honest(self, images, *rest)
            if tight:
                fail()
            return features

        monkeypatch.setattr(Encoder, "forward", forward)

    return limit


def weights(output: Path) -> list[str]:
    return [digest(path) for path in sorted(output.rglob("weights.safetensors"))]


def accumulating(workspace: Workspace, accumulate: int | str, batch: int = 4) -> Workspace:
    change = {"accumulate": accumulate, "batch": batch}
    return restudy(workspace, pretrain=change, finetune={**change, "seeds": 1})


@pytest.mark.parametrize("run", [run_pretrain, run_finetune])
@pytest.mark.parametrize("late", [False, True])
def test_auto_doubles_the_parts_and_ends_as_if_it_had_begun_with_them(
    tiny_workspace: Workspace, small_memory: Callable[..., None], run: Callable, late: bool
):
    """Also where memory runs out after BatchNorm has seen the batch."""
    expected = weights(run(accumulating(tiny_workspace, 4), BreaksOff()))
    small_memory(1, late=late)
    reporter = BreaksOff()
    output = run(accumulating(tiny_workspace, "auto"), reporter)
    assert weights(output) == expected
    notes = [note for note in reporter.notes if "memory ran out in epoch 1, step 1" in note]
    assert [note[-12:] for note in notes[:2]] == ["{'parts': 2}", "{'parts': 4}"]
    for path in output.rglob("history.json"):
        assert {epoch["accumulate"] for epoch in read_json(path)["epochs"]} == {4}


def test_the_parts_are_kept_when_a_run_goes_on_and_a_plain_history_does_not_speak_of_them(
    tiny_workspace: Workspace, small_memory: Callable[..., None]
):
    plain = run_finetune(accumulating(tiny_workspace, 1), BreaksOff())
    assert "accumulate" not in read_json(plain / "seed-7/history.json")["epochs"][0]
    workspace = accumulating(tiny_workspace, "auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stcln.training.loop.SAVE_EVERY", 0.0)
        small_memory(2)
        with pytest.raises(Broken):
            run_finetune(workspace, BreaksOff(1))
    small_memory(4)
    reporter = BreaksOff()
    history = read_json(run_finetune(workspace, reporter) / "seed-7/history.json")
    assert [epoch["accumulate"] for epoch in history["epochs"]] == [2, 2, 2]
    assert not any("memory ran out" in note for note in reporter.notes)


@pytest.mark.parametrize("fail", [torchs, numpys, cudas])
def test_a_step_without_memory_ends_in_a_sentence_with_batch_window_dates_and_setting(
    tiny_workspace: Workspace, small_memory: Callable[..., None], fail: Callable[[], None]
):
    small_memory(3, since=2, fail=fail)
    sentence = (
        "training, epoch 2, step 1: memory ran out on a batch of 4 windows of 8 x 8 pixels with 6 dates, 4 at once; "
        r"set finetune.accumulate to auto, or lower finetune.batch\."
    )
    with pytest.raises(BadInput, match=sentence):
        run_finetune(accumulating(tiny_workspace, 1), BreaksOff())
    assert [*tiny_workspace.root.glob(".stcln/resume/*/seed-7/000001-00000000")]


def test_a_single_sample_without_memory_ends_in_the_sentence_too(
    tiny_workspace: Workspace, small_memory: Callable[..., None]
):
    small_memory(0)
    with pytest.raises(BadInput, match=r"1 at once; lower pretrain\.window or the length's dates"):
        run_pretrain(accumulating(tiny_workspace, "auto", 2), BreaksOff())


def test_a_batch_that_cannot_even_be_read_ends_in_the_sentence(tiny_workspace: Workspace, monkeypatch):
    monkeypatch.setattr(Loader, "_collate", lambda self, windows: numpys())
    with pytest.raises(BadInput, match=r"epoch 1, step 1: memory ran out on a batch of 2 windows of 8 x 8 pixels"):
        run_finetune(tiny_workspace, BreaksOff())


def test_a_validation_without_memory_is_not_told_to_divide_steps(tiny_workspace: Workspace, monkeypatch):
    monkeypatch.setattr("stcln.training.pretrain.Filling.validate", lambda _: numpys())
    with pytest.raises(BadInput, match=r"validation: memory ran out on .*, 2 at once; lower pretrain\.batch\."):
        run_pretrain(accumulating(tiny_workspace, "auto", 2), BreaksOff())


def test_where_auto_is_set_already_a_number_is_advised():
    """As in a team, whose processes do not find the number by themselves."""
    options = Finetune(batch=8, accumulate="auto")
    with (
        pytest.raises(BadInput, match=r"set finetune.accumulate to a number such as 4, or lower finetune.batch"),
        refusals_of_memory("epoch 1, step 1", options, (8, 6, 8, 8), 1),
    ):
        numpys()


def test_an_error_that_is_not_of_memory_stays_what_it_is(tiny_workspace: Workspace, small_memory: Callable[..., None]):
    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    small_memory(0, fail=fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_finetune(accumulating(tiny_workspace, "auto"), BreaksOff())


class Weighted(Scripted):
    """Four samples that pull at the weight with a force of their own, over so many pixels of their own."""

    def step(self, epoch: int, step: int) -> Step:
        force, counts = torch.tensor([1.0, -2.0, 4.0, 0.5]), torch.tensor([5.0, 2.0, 2.0, 0.0])

        def loss(samples: slice) -> torch.Tensor:
            share = (force * counts)[samples].sum() / counts.sum()
            return share * self.network.weight.sum() + share

        return Step(loss, 4, ("north",) * 4, (6, 8, 8))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
def test_in_parts_loss_and_gradient_are_those_of_the_whole_batch(tmp_path: Path, accumulate: int):
    objective = Weighted([0.5])
    done = run(tmp_path / "parts", objective, epochs=1, batch=4, accumulate=accumulate)
    whole = run(tmp_path / "whole", Weighted([0.5]), epochs=1)
    assert objective.network.weight.grad.item() == pytest.approx((5 * 1 - 2 * 2 + 2 * 4) / 9)
    assert done.epochs[0]["loss"] == pytest.approx(whole.epochs[0]["loss"])


def test_parts_cover_a_batch_and_differ_by_one_sample_at_most():
    for samples in range(1, 9):
        for count in range(1, 12):
            sizes = [len(range(samples)[part]) for part in parts(samples, count)]
            assert sum(sizes) == samples and len(sizes) == min(samples, count) and max(sizes) - min(sizes) <= 1


def test_a_number_of_parts_that_is_none_is_refused(tiny_workspace: Workspace):
    for wrong in (0, -1, 1.5, True, "all"):
        problem = "true and false are no value for it" if wrong is True else "it is neither a number from 1 on nor auto"
        with pytest.raises(BadInput, match=rf"field pretrain\.accumulate: {problem}"):
            _ = accumulating(tiny_workspace, wrong, 2).study
