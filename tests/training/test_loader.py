"""What a batch holds, and that order and draws depend on nothing but (seed, epoch, step)."""

from dataclasses import replace
from datetime import date

import numpy as np
import torch

from stcln.data.loader import Loader
from stcln.data.samples import Sample
from stcln.data.series import statistics
from stcln.study import Length, Method

MEAN, STD = np.array([100.0, 200.0], np.float32), np.array([10.0, 20.0], np.float32)


class Images:
    """Reflectance tells date, band, row and column apart; the first pixel of the first date was not seen."""

    def __init__(self, T: int, side: int) -> None:
        self.reflectance = np.arange(T * 2 * side * side, dtype=np.int16).reshape(T, 2, side, side)
        self.valid = np.ones((T, side, side), bool)
        self.valid[0, 0, 0] = False

    def read(self, dates, window):
        row, column, side = window
        y, x = slice(row, row + side), slice(column, column + side)
        return self.reflectance[dates, :, y, x], self.valid[dates, y, x]


def series(tile: str, days: list[int], size: int = 3, ground: int = 0) -> Sample:
    """A window of `size` pixels that may lie anywhere in a ground of `ground` pixels."""
    labels = np.arange(size * size).reshape(size, size).astype(np.uint8)
    dates = np.datetime64("2018-01-01") + np.array(days)
    room = (max(ground - size, 0),) * 2
    return Sample(tile, "2018", date(2018, 1, 1), dates, labels, Images(len(days), max(size, ground)), room)


def loader(*windows: Sample, method: Method | None = None, **options) -> Loader:
    return Loader(windows, options.pop("size", 2), MEAN, STD, method or Method(), options.pop("seed", 3), **options)


def test_a_short_series_is_padded_and_its_padding_is_not_valid():
    batch = loader(series("a", [5, 20, 40]), series("b", [7])).batch(0, 0)
    assert batch.images.shape == (2, 3, 2, 3, 3)
    assert batch.positions.tolist() == [[5, 20, 40], [7, 0, 0]]
    assert not batch.valid[1, 1:].any() and batch.valid[1, 0].sum() == 8
    assert not batch.images[1, 1:].any()
    assert batch.tiles == ("a", "b")


def test_as_published_padding_is_attended_and_positions_are_indices():
    method = Method(positions="index", padding="attended")
    batch = loader(series("a", [5, 20, 40]), series("b", [7]), method=method).batch(0, 0)
    assert batch.positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch.valid[1, 1:].all()


def test_images_are_normalised_with_the_given_statistics():
    window = series("a", [5, 20])
    batch = loader(window).batch(0, 0)
    reflectance = window.images.reflectance
    expected = (reflectance - MEAN[:, None, None]) / STD[:, None, None]
    np.testing.assert_allclose(batch.images[0].numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(batch.reflectance[0].numpy(), reflectance)


def test_statistics_are_those_of_the_valid_pixels():
    window = series("a", [5, 20]).read()
    mean, std = statistics([window, replace(window, reflectance=window.reflectance * 3)])
    seen = np.moveaxis(window.reflectance, 1, -1)[window.valid].astype(float)
    both = np.concatenate([seen, 3 * seen])
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, both.std(0), rtol=1e-5)


def test_an_epoch_shows_every_window_once_in_an_order_of_its_own():
    tiles = [series(f"t{i}", [5, 20]) for i in range(7)]
    shuffled = loader(*tiles, training=True)
    orders = [[tile for batch in shuffled.epoch(epoch) for tile in batch.tiles] for epoch in (1, 2)]
    assert all(sorted(order) == [t.tile for t in tiles] for order in orders)
    assert orders[0] != orders[1]


def test_a_batch_depends_on_seed_epoch_and_step_alone():
    tiles = [series(f"t{i}", list(range(5, 90, 10))) for i in range(5)]
    options = {"training": True, "augment": True, "length": Length(dates=4, choose="random")}
    straight, jumped = loader(*tiles, **options), loader(*tiles, **options)
    list(straight.epoch(1))
    here, there = straight.batch(2, 1), jumped.batch(2, 1)
    assert here.tiles == there.tiles and torch.equal(here.images, there.images)
    other = loader(*tiles, **options, seed=4).batch(2, 1)
    assert other.tiles != here.tiles or not torch.equal(other.images, here.images)


def shared(whole: Loader, size: int) -> list[Loader]:
    return [replace(whole, share=(rank, size)) for rank in range(size)]


def test_the_shares_of_a_batch_are_the_batch_drawn_and_padded_as_by_one_process():
    tiles = [series(f"t{i}", list(range(5, 75 + 5 * i, 10)), size=3, ground=5) for i in range(7)]
    rule = Length(dates=9, choose="random")
    whole = loader(*tiles, size=5, training=True, augment=True, length=rule, method=Method(padding="attended"))
    for step in range(2):
        batch = whole.batch(1, step)
        parts = [one.batch(1, step) for one in shared(whole, 2)]
        assert all(part.tiles == batch.tiles for part in parts)
        assert [part.first for part in parts] == [0, -(-len(batch.tiles) // 2)]
        for name in ("images", "reflectance", "positions", "valid", "labels"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name)), name


def test_a_process_reads_its_own_samples_alone():
    tiles = [series(f"t{i}", [5, 20]) for i in range(5)]
    read = list[str]()
    for tile in tiles:
        honest = tile.images.read
        tile.images.read = lambda *a, honest=honest, tile=tile: (read.append(tile.tile), honest(*a))[1]
    parts = [one.batch(0, 0) for one in shared(loader(*tiles, size=5), 3)]
    assert [len(part.images) for part in parts] == [2, 2, 1] and read == [tile.tile for tile in tiles]


def test_a_process_without_a_sample_has_a_blank_one_with_nothing_valid_and_nothing_labelled():
    whole = loader(series("a", [5, 20, 40]))
    first, second = (one.batch(0, 0) for one in shared(whole, 2))
    assert not first.blank and second.blank
    assert second.images.shape == first.images.shape and second.tiles == first.tiles
    assert not second.valid.any() and not second.images.any() and (second.labels == 255).all()


def test_random_dates_are_drawn_in_training_only():
    window, rule = series("a", list(range(5, 95, 10))), Length(dates=3, choose="random")
    drawn = [loader(window, training=True, length=rule).batch(epoch, 0).positions.tolist() for epoch in range(6)]
    tested = [loader(window, length=rule).batch(epoch, 0).positions.tolist() for epoch in range(6)]
    assert len({str(days) for days in drawn}) > 1
    assert all(days == [[5, 45, 85]] for days in tested)


def test_as_published_random_dates_are_drawn_at_test_too_but_seeded():
    window, rule = series("a", list(range(5, 95, 10))), Length(dates=3, choose="random")
    loose = loader(window, length=rule, method=Method(dates="redrawn"))
    drawn = [loose.batch(epoch, 0).positions.tolist() for epoch in range(6)]
    assert len({str(days) for days in drawn}) > 1
    assert drawn[2] == loose.batch(2, 0).positions.tolist()


def test_augmentation_turns_image_validity_and_labels_together():
    window = series("a", [5, 20])
    seen = set()
    for epoch in range(40):
        batch = loader(window, training=True, augment=True).batch(epoch, 0)
        labels = batch.labels[0].flatten()
        first = batch.reflectance[0, 0, 0].flatten().long()
        assert torch.equal(first, labels)
        assert batch.valid[0, 0].flatten()[labels == 0].item() is False
        seen.add(tuple(labels.tolist()))
    assert len(seen) == 8


def test_another_attempt_at_a_batch_draws_other_samples():
    shuffled = loader(*[series(f"t{i}", [5, 20]) for i in range(9)], training=True)
    attempts = {shuffled.batch(1, 0, attempt).tiles for attempt in range(5)}
    assert len(attempts) > 1 and all(len(tiles) == 2 for tiles in attempts)


def test_a_free_window_lies_anywhere_in_its_tile_and_the_draw_is_repeated_by_the_same_seed():
    window = series("a", [5, 20], size=3, ground=5)
    free = loader(window, training=True)
    corners = [free.batch(epoch, 0).reflectance[0, 0, 0] for epoch in range(60)]
    assert {divmod(int(crop[0, 0]), 5) for crop in corners} == {(y, x) for y in range(3) for x in range(3)}
    for crop in corners:
        y, x = divmod(int(crop[0, 0]), 5)
        np.testing.assert_array_equal(crop, window.images.reflectance[0, 0, y : y + 3, x : x + 3])
    again = loader(window, training=True)
    assert torch.equal(again.batch(7, 0).reflectance, free.batch(7, 0).reflectance)
