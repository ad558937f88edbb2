"""The share of labels: exact, stratified, nested, the same for the same seed."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stcln.data.samples import Sample
from stcln.data.tile import VOID
from stcln.errors import BadInput
from stcln.training import labels


def window(tile: str, classes: np.ndarray) -> Sample:
    dates = np.array(["2018-05-01"], "datetime64[D]")
    return Sample(tile, "2018", date(2018, 1, 1), dates, classes.astype(np.uint8), images=None)  # none is read


def random_windows(seed: int, tiles: int = 5, size: int = 12) -> list[Sample]:
    rng = np.random.default_rng(seed)
    mix = [0.05, 0.6, 0.3, 0.05]
    return [window(f"t{i}", rng.choice([0, 1, 2, VOID], (size, size), p=mix)) for i in range(tiles)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), part=st.floats(0.001, 1.0))
def test_a_share_keeps_exactly_so_many_pixels_of_each_class_and_at_least_one(seed: int, part: float):
    full = random_windows(seed)
    before, after = labels.count(full, 3), labels.count(labels.share(full, part, seed), 3)
    assert after.tolist() == [max(1, round(part * n)) for n in before]


def test_a_share_takes_from_every_tile_in_proportion():
    full = random_windows(1)
    kept = labels.share(full, 0.25, 7)
    for all_of, some in zip(full, kept, strict=True):
        for label in (1, 2):
            assert abs((some.labels == label).sum() - 0.25 * (all_of.labels == label).sum()) <= 1.5


def test_two_windows_of_a_tile_are_one_stratum():
    halves = [window("a", np.ones((2, 2))), window("a", np.ones((2, 2))), window("b", np.ones((4, 2)))]
    kept = labels.share(halves, 0.25, 0)
    assert (kept[2].labels == 1).sum() == 2 and sum((w.labels == 1).sum() for w in kept[:2]) == 2


def test_a_smaller_share_lies_inside_a_larger_one_and_keeps_the_true_labels():
    full = random_windows(2)
    few, more = labels.share(full, 0.02, 9), labels.share(full, 0.1, 9)
    for whole, small, large in zip(full, few, more, strict=True):
        assert (large.labels[small.labels != VOID] != VOID).all()
        assert (large.labels == whole.labels)[large.labels != VOID].all()


def test_a_share_is_the_same_for_the_same_seed_and_another_for_another():
    full = random_windows(3)
    chosen = [np.stack([w.labels for w in labels.share(full, 0.1, seed)]) for seed in (4, 4, 5)]
    assert np.array_equal(chosen[0], chosen[1]) and not np.array_equal(chosen[0], chosen[2])


def test_ignored_classes_have_no_label():
    kept = labels.scored(random_windows(4), (0,))
    assert labels.count(kept, 3)[0] == 0 and labels.count(kept, 3)[1] > 0


def test_folds_hold_every_tile_back_once_and_never_train_on_it():
    full = random_windows(5, tiles=7)
    held = []
    for which in range(3):
        training, validation = labels.fold(full, 3, which, seed=1)
        assert not {w.tile for w in training} & {w.tile for w in validation}
        assert len(training) + len(validation) == 7
        held += [w.tile for w in validation]
    assert sorted(held) == sorted(w.tile for w in full)


def test_more_folds_than_labelled_tiles_are_refused():
    with pytest.raises(BadInput, match=r"finetune\.folds: 3 folds of 2 labelled tiles"):
        labels.fold(random_windows(6, tiles=2), 3, 0, seed=1)
