"""Several processes train as one does: the same losses and weights to rounding, one that writes, one clean end.

Real processes over gloo, one test by torchrun itself; NCCL needs GPUs and is not run here.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from team import Started, norms, plain, small, team, verb
from tiny_study import STUDY, restudy, synthetic_tile, write_season
from torch import nn

from stcln.errors import BadInput
from stcln.events import Silent, Value
from stcln.model import encoder, network
from stcln.storage import read_json
from stcln.training.distributed import Team, _backend, _own
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CELL = ("2016", "full", "scratch")
FINETUNE = ("finetune", "--season", CELL[0], "--length", CELL[1], "--arm", CELL[2])
EPOCHS = 25  # of two steps, the second of which has no sample for some process
BEGUN = 2  # epochs of the fine-tuning that one process does before three take it up
CURVE = 1e-4
RATE = 1e-4  # the published one; at a higher rate the rounding of one step grows in the next
Copy = Callable[..., Workspace]


class Broken(Exception):  # noqa: N818
    """The power fails."""


class BreaksOff(Silent):
    """Fails after the first epochs."""

    def progress(self, what: str, done: int, total: int, values: Mapping[str, Value] | None = None) -> None:
        if done == BEGUN:
            raise Broken


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose tiles have 6 to 8 dates, nothing trained."""
    root = tmp_path_factory.mktemp("team") / "prepared"
    for season in STUDY["cells"]["season"]:
        tiles = [synthetic_tile(n, season, dates=8 - n % 3) for n in range(10)]
        write_season(root / f"data/seasons/{season}.zarr", season, tiles)
    shared = {"epochs": EPOCHS, "batch": 4, "learning_rate": RATE}
    (root / "params.yaml").write_text(yaml.safe_dump(STUDY))
    masked = {"length": "full", "mask": {"vegetation": 0.5}}
    restudy(Workspace(root), pretrain={**shared, **masked}, finetune={**shared, "seeds": 1})
    return root


@pytest.fixture(scope="module")
def copied(prepared: Path) -> Copy:
    """A function: a workspace of that name, before any training, with sections of its study changed."""

    def copy(name: str, **sections: object) -> Workspace:
        shutil.copytree(prepared, prepared.with_name(name))
        return restudy(Workspace(prepared.with_name(name)), **sections)

    return copy


@pytest.fixture(scope="module", autouse=True)
def _plain() -> Iterator[None]:
    """The networks of this process are those of the teams."""
    before = encoder.DROPOUT, network._SIZES["tiny"]
    plain()
    yield
    encoder.DROPOUT, network._SIZES["tiny"] = before


@pytest.fixture(scope="module")
def trained(prepared: Path, copied: Copy) -> dict[str, tuple[Path, Path]]:
    """Outputs by verb: (of one process, of three). Padding is attended, which shows how long it is."""
    one, three = (copied(name, method={"padding": "attended"}) for name in ("one", "three"))
    finetune(one, *CELL, Silent())
    pretrain(one, Silent())
    with pytest.raises(Broken):
        finetune(three, *CELL, BreaksOff())
    for words in (FINETUNE, ("pretrain",)):
        with team(3, prepared.with_name("log"), verb, *words, "--workspace", str(three.root)) as run:
            assert run.statuses() == [0, 0, 0], run.log.read_text()
    cells = (workspace.finetuned(*CELL) / f"seed-{one.study.seed}" for workspace in (one, three))
    return {"pretrain": (one.pretrained, three.pretrained), "finetune": tuple(cells)}


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_the_losses_of_fifty_steps_are_those_of_one_process_with_the_whole_batch(trained, name: str):
    one, three = (read_json(path / "history.json")["epochs"] for path in trained[name])
    assert len(one) == len(three) == EPOCHS
    for expected, found in zip(one, three, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=CURVE)
    assert one[0]["loss"] - one[-1]["loss"] > 100 * CURVE, "nothing was learnt"


def test_the_same_pixels_are_hidden_and_held_out_tiles_score_the_same(trained):
    one, three = (read_json(path / "history.json") for path in trained["pretrain"])
    assert [epoch["masked_pixels"] for epoch in one["epochs"]] == [epoch["masked_pixels"] for epoch in three["epochs"]]
    scores = [[epoch["validation"] for epoch in history["epochs"]] for history in (one, three)]
    assert scores[1] == pytest.approx(scores[0], abs=CURVE)
    assert one["best_epoch"] == three["best_epoch"] and one["held_out"] == three["held_out"]


def test_the_weights_have_the_same_names_and_predict_the_same(trained):
    one, three = (load_file(path / "weights.safetensors") for path in trained["pretrain"])
    assert one.keys() == three.keys()
    for name in one.keys() - {key for key in one if "qkv.bias" in key}:  # a third of it has no gradient but rounding
        apart = (one[name].float() - three[name].float()).abs()  # Adam moves single weights that have next to none, too
        assert float(apart.mean()) <= CURVE / 10, name
    one, three = (np.load(path / "sample.npz") for path in trained["pretrain"])
    np.testing.assert_array_equal(three["hidden"], one["hidden"])
    np.testing.assert_allclose(three["reconstruction"], one["reconstruction"], atol=CURVE)


def test_lineage_differs_in_nothing_but_the_digests_of_the_output(trained):
    for one, three in (trained["pretrain"], tuple(path.parent for path in trained["finetune"])):
        expected, found = (read_json(path / "lineage.json") for path in (one, three))
        outputs = [record.pop("outputs") for record in (expected, found)]
        assert expected == found and outputs[0].keys() == outputs[1].keys()
        assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in three.iterdir())


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `norms` found in each of three processes."""
    at = tmp_path_factory.mktemp("norms")
    with team(3, at / "log", norms, str(at)) as run:
        assert run.statuses() == [0, 0, 0], run.log.read_text()
    return [json.loads((at / f"{rank}.json").read_text()) for rank in range(3)]


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """All images, and a gradient of what becomes of them."""
    x, gradient = (torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(2))
    return 5 + 3 * x, gradient


def test_gradients_of_a_team_are_those_of_the_whole_batch_in_size_too(normed):
    """Adam and a clipped norm would hide a factor."""
    network = small()
    (network(drawn()[0]).square().sum() / 8).backward()
    for record in normed:
        for parameter, found in zip(network.parameters(), record["gradients"], strict=True):
            assert torch.allclose(torch.tensor(found), parameter.grad, rtol=1e-4, atol=1e-5)


def test_batchnorm_over_processes_is_batchnorm_over_all_their_images_and_a_blank_one_counts_for_nothing(normed):
    found, (x, gradient), norm = normed, drawn(), nn.BatchNorm2d(3)
    x.requires_grad_()
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(4))
    y = norm(x)
    y.backward(gradient)
    for name, expected in (("y", y), ("x", x.grad)):
        parts = torch.cat([torch.tensor(found[rank][name]) for rank in (0, 2)])
        assert torch.allclose(parts, expected, atol=1e-6), name
    assert not torch.tensor(found[1]["x"]).any()
    weight = sum(torch.tensor(record["weight"]) for record in found)
    assert torch.allclose(weight, norm.weight.grad, atol=1e-5)
    for record in found:
        assert record["state"].keys() == norm.state_dict().keys()
        for name, value in norm.state_dict().items():
            assert torch.allclose(torch.tensor(record["state"][name]), value, atol=1e-5), name


def test_bad_input_is_told_once_and_every_process_ends_with_its_status(copied: Copy, tmp_path: Path):
    workspace = copied("bad")
    words = (*FINETUNE[:-1], "none", "--workspace", str(workspace.root))
    with team(2, tmp_path / "log", verb, *words) as run:
        assert run.statuses() == [2, 2]
    (sentence,) = run.sentences()
    assert "no arm 'none' among" in sentence and "Traceback" not in run.log.read_text()
    assert not (workspace.root / "models").exists()


def states(workspace: Workspace) -> list[Path]:
    """The state.json of every state of a pre-training, the newest last."""
    return sorted(workspace.resume("pretrain").glob(f"seed-{workspace.study.seed}/[0-9]*/state.json"))


def until_saved(run: Started, workspace: Workspace) -> None:
    """Wait until the first state of a pre-training lies there."""
    while not states(workspace):
        assert all(process.is_alive() for process in run.processes), run.log.read_text()
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [0, 1])
def test_where_a_process_is_killed_the_other_ends_with_a_sentence_and_one_alone_goes_on(
    copied: Copy, trained, tmp_path: Path, killed: int
):
    workspace = copied(f"killed {killed}", method={"padding": "attended"})
    with team(2, tmp_path / "log", verb, "pretrain", "--workspace", str(workspace.root)) as run:
        until_saved(run, workspace)
        run.processes[killed].kill()
        statuses = run.statuses(seconds=30)
    assert (statuses[killed], statuses[1 - killed]) == (-signal.SIGKILL, 2)
    (sentence,) = run.sentences()
    assert sentence.startswith(f"stcln: process {1 - killed} of 2: another process of the run has ended; ")
    assert "Traceback" not in run.log.read_text()
    assert not workspace.pretrained.exists()
    assert 1 <= len(read_json(states(workspace)[-1])["epochs"]) < EPOCHS
    pretrain(workspace, Silent())
    assert not [*workspace.root.rglob(".*.part")]
    one, again = (read_json(at / "history.json")["epochs"] for at in (trained["pretrain"][0], workspace.pretrained))
    assert [epoch["loss"] for epoch in again] == pytest.approx([epoch["loss"] for epoch in one], abs=CURVE)


def test_a_team_that_is_asked_to_stop_says_so_once(copied: Copy, tmp_path: Path):
    workspace = copied("stopped")
    with team(2, tmp_path / "log", verb, "pretrain", "--workspace", str(workspace.root)) as run:
        until_saved(run, workspace)
        for process in run.processes:
            process.terminate()
        assert run.statuses(seconds=30) == [143, 143]
    assert run.sentences() == ["stcln: stopped by SIGTERM; run it again to go on."]
    assert not workspace.pretrained.exists() and not [*workspace.root.rglob(".*.part")]


def test_a_verb_run_by_torchrun_writes_what_one_process_writes_and_tells_it_once(copied: Copy):
    workspace = copied("verb", pretrain={"epochs": 2, "batch": 1})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    words = [*torchrun, "-m", "stcln", "pretrain", "--workspace", str(workspace.root)]
    run = subprocess.run(words, text=True, capture_output=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("2 processes share batches of 1: some have nothing to do") == 1
    assert [run.stderr.count(f"epoch {n}/2") for n in (1, 2)] == [1, 1] and run.stdout.count("best_epoch") == 1
    names = sorted(path.name for path in workspace.pretrained.iterdir())
    tensors = ["head.safetensors", "weights.safetensors"]
    assert names == sorted(["card.json", "history.json", "lineage.json", "sample.npz", *tensors])
    assert read_json(workspace.run_record("pretrain"))["processes"] == 2
    assert not workspace.resume("pretrain").exists()


def test_more_processes_than_gpus_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BadInput, match="torchrun --nproc-per-node: 4 processes for 2 GPUs; start one a GPU"):
        _backend(0, 4)


def test_processes_of_one_machine_share_its_cores():
    assert [list(_own(range(8), n, 3)) for n in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert [list(_own(range(2), n, 3)) for n in range(3)] == [[0], [1], [0]]


def test_a_process_that_joined_no_team_is_one_by_itself():
    alone = Team.here()
    assert alone == Team(0, 1) and alone.leads and alone.stream == ()
    assert alone.total(3, 4) == [3, 4] and list(alone.turns(3)) == [0, 1, 2]
    assert alone.spread(layer := nn.BatchNorm2d(2)) is layer and type(layer) is nn.BatchNorm2d
