"""Training is fed ahead of time: the same batches at any number of threads, from memory or from the store."""

import os
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import torch
from tiny_study import restudy

from stcln.data import samples as module
from stcln.data.loader import Batch, Loader
from stcln.data.samples import Held, held, labelled, unlabelled
from stcln.data.splits import Selection
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.model.compute import Device
from stcln.stages import STAGES
from stcln.storage import digest, read_json
from stcln.study import Length, Method
from stcln.training.feed import Feed
from stcln.training.finetune import Cell, Classifying, _objective, finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

CPU = Device(torch.device("cpu"), torch.float32)
EPOCHS, SIDE = 3, 5


@pytest.fixture
def store(tiny_workspace: Workspace) -> SeasonStore:
    return SeasonStore.open(tiny_workspace.season("2016"))


def loader(store: SeasonStore, budget: float = 0.0, random: bool = True) -> Loader:
    """Windows of 5 of a tile's 8 pixels; 4 of its 8 dates, drawn; turned."""
    places = [Selection(tile, 0, 0, SIDE) for tile in range(len(store))]
    windows = held(unlabelled(store, places, Length(), Method(), random=random), budget)
    drawn = Length(dates=4, choose="random")
    return Loader(windows, 3, store.mean, store.std, Method(), 7, training=True, length=drawn, augment=True)


def same(one: Batch, other: Batch) -> bool:
    names = ("images", "reflectance", "positions", "valid", "labels")
    return one.tiles == other.tiles and all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def steps(loader: Loader) -> Iterator[tuple[int, int]]:
    return product(range(1, 1 + EPOCHS), range(len(loader)))


def working() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_feed_gives_the_loader_s_batches_at_any_number_of_threads(store: SeasonStore, threads: int):
    plain, feed = loader(store), Feed(loader(store), CPU, threads)
    for epoch, step in steps(plain):
        assert same(feed.batch(epoch, step), plain.batch(epoch, step))
    feed.close()
    assert not working()


def test_a_resumed_run_goes_on_with_the_very_next_batch(store: SeasonStore):
    whole = [loader(store).batch(*at) for at in steps(loader(store))]
    for begin in range(len(whole)):
        feed = Feed(loader(store), CPU, 2)
        rest = [feed.batch(*at) for at in list(steps(feed.loader))[begin:]]
        feed.close()
        assert all(same(*pair) for pair in zip(rest, whole[begin:], strict=True))


def test_another_attempt_leaves_what_was_made_ahead_in_place(store: SeasonStore):
    plain, feed = loader(store), Feed(loader(store), CPU, 2)
    for epoch, step in steps(plain):
        assert same(feed.batch(epoch, step), plain.batch(epoch, step))
        assert same(feed.batch(epoch, step, 1), plain.batch(epoch, step, 1))
    feed.close()


@pytest.mark.parametrize("random", [False, True])
def test_a_season_in_memory_gives_the_same_batches_and_is_read_once(store: SeasonStore, random: bool, monkeypatch):
    read, honest = list[int](), SeasonStore.read_images
    monkeypatch.setattr(
        SeasonStore, "read_images", lambda self, tile, *a: (read.append(tile), honest(self, tile, *a))[1]
    )
    plain, kept = loader(store, random=random), loader(store, budget=1.0, random=random)
    batches = [plain.batch(*at) for at in steps(plain)]
    assert len(read) == EPOCHS * len(store)
    read.clear()
    feed = Feed(kept, CPU, 3)
    assert all(same(feed.batch(*at), batch) for at, batch in zip(steps(kept), batches, strict=True))
    feed.close()
    assert sorted(read) == list(range(len(store)))


def test_windows_are_held_only_if_all_of_them_fit_the_budget(store: SeasonStore):
    places = [Selection(tile, 0, 0, 8) for tile in range(len(store))]
    windows = labelled(store, places, Length(), Method())
    need = sum(store.read_images(tile)[0].nbytes + store.read_images(tile)[1].nbytes for tile in range(len(store)))
    assert all(isinstance(one.images, Held) for one in held(windows, need / module.GIB))
    assert not any(isinstance(one.images, Held) for one in held(windows, (need - 1) / module.GIB))


def test_windows_of_one_tile_that_move_share_what_is_held(store: SeasonStore):
    places = [Selection(0, y, x, 4) for y in (0, 4) for x in (0, 4)]
    windows = held(unlabelled(store, places, Length(), Method(), random=True), 1.0)
    assert len({id(one.images) for one in windows}) == 1 and {one.room for one in windows} == {(4, 4)}
    for corner in product(range(5), repeat=2):
        part = windows[0].read(corner=corner).reflectance
        assert np.array_equal(part, store.read_images(0, window=(*corner, 4))[0])


@pytest.mark.parametrize("crops", ["grid", "random"])
def test_what_is_held_changes_no_byte_of_what_is_learnt(tiny_workspace: Workspace, crops: str):
    found = set()
    for memory in (0, 4):
        sections = {"pretrain": {"crops": crops, "window": 4}, "finetune": {"window": 4}, "loading": {"memory": memory}}
        workspace = restudy(tiny_workspace, **sections)
        pretrain(workspace, Silent())
        finetune(workspace, "2016", "d6", "pretrained", Silent())
        found.add((digest(workspace.pretrained), digest(workspace.finetuned("2016", "d6", "pretrained"))))
    assert len(found) == 1


def test_random_crops_train_on_other_pixels_and_validate_on_the_grid(tiny_workspace: Workspace, monkeypatch):
    seen: dict[bool, set[bytes]] = {True: set(), False: set()}
    honest = Loader._collate

    def watched(self: Loader, drawn):
        seen[self.training].update(one.read().reflectance.tobytes() for one in drawn)
        return honest(self, drawn)

    monkeypatch.setattr(Loader, "_collate", watched)
    counts = {}
    for crops in ("grid", "random"):
        workspace = restudy(tiny_workspace, pretrain={"crops": crops, "window": 4, "epochs": 3}, finetune={"window": 4})
        pretrain(workspace, Silent())
        history = read_json(workspace.pretrained / "history.json")
        counts[crops] = len(seen[True]), len(seen[False]), history["windows"]
        seen = {True: set(), False: set()}
    assert counts["grid"] == (20, 4, 20), "five tiles of four windows, and those of the one held out"
    assert counts["random"][0] > 30 and counts["random"][1:] == (4, 20)


def test_random_crops_of_listed_windows_are_refused(tiny_workspace: Workspace):
    splits = dict(tiny_workspace.study.model_dump()["splits"])
    splits["pretrain"] = {"take": ["train"], "crops": [[0, 0]]}
    workspace = restudy(tiny_workspace, pretrain={"crops": "random"}, splits=splits)
    with pytest.raises(BadInput, match=r"pretrain\.crops: random windows leave the ones that splits\.pretrain\.crops"):
        _ = workspace.study


def test_pretraining_reads_no_label(tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise AssertionError("a label is read")

    monkeypatch.setattr(SeasonStore, "read_labels", refused)
    pretrain(tiny_workspace, Silent())


def test_a_tile_torn_while_training_is_named_and_no_thread_is_left(tiny_workspace: Workspace):
    class Tears(Silent):
        def progress(self, *_: object) -> None:
            shard: Path = tiny_workspace.season("2016") / "reflectance/c/0/0/0/0/0"
            os.truncate(shard, 100)

    workspace = restudy(tiny_workspace, loading={"memory": 0})
    with pytest.raises(BadInput, match=r"2016\.zarr: .*tile t0\d cannot be read"):
        pretrain(workspace, Tears())
    assert not working()


def test_validation_left_midway_leaves_no_thread(tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    class Stopped(BaseException):
        """As a signal raises it."""

    def stop(self, *_: object):
        if not torch.is_grad_enabled():
            assert working()
            raise Stopped

    monkeypatch.setattr(Classifying, "predict", stop)
    cell = Cell.read(tiny_workspace, "2016", "d6", "scratch", Silent())
    objective, _ = _objective(cell, cell.split(7), 7)
    with torch.inference_mode(), pytest.raises(Stopped) as caught:
        objective.validate()
    assert caught.tb is not None and not working()


def test_a_store_on_a_server_feeds_the_same_batches(tiny_workspace: Workspace, store: SeasonStore):
    system, root = fsspec.filesystem("memory"), f"/{uuid4().hex}/2016.zarr"
    system.put(str(tiny_workspace.season("2016")), root, recursive=True)
    there = SeasonStore.open(f"memory:/{root}")
    plain, feed = loader(store), Feed(loader(there), CPU, 3)
    assert all(same(feed.batch(*at), plain.batch(*at)) for at in steps(plain))
    feed.close()
    system.rm(root, recursive=True)


def test_for_a_cuda_device_batches_are_pinned_by_the_threads_that_make_them(store: SeasonStore, monkeypatch):
    by: list[str] = []
    monkeypatch.setattr(Batch, "pinned", lambda self: (by.append(threading.current_thread().name), self)[1])
    monkeypatch.setattr(Batch, "to", lambda self, device: self)
    feed = Feed(loader(store), Device(torch.device("cuda"), torch.float32), 2)
    feed.batch(1, 0)
    assert all(name.startswith("ahead") for name in by) and by
    assert len(list(feed.epoch(1))) == len(feed)
    feed.close()


def test_no_stage_depends_on_how_images_are_loaded():
    assert not [param for stage in STAGES.values() for param in stage.params if param.startswith("loading")]
