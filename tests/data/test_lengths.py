"""Season lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stcln.data.lengths import choose
from stcln.errors import BadInput
from stcln.study import Length

YEAR = np.arange("2018-09-01", "2019-12-01", 5, dtype="datetime64[D]")


def test_full_keeps_every_date() -> None:
    assert np.array_equal(choose(YEAR, Length(), "2019"), np.arange(len(YEAR)))


@given(T=st.integers(1, 91), wanted=st.integers(2, 60))
def test_even_dates_are_evenly_spaced_in_rank_with_both_ends(T: int, wanted: int) -> None:
    kept = choose(YEAR[:T], Length(dates=wanted), "2019")
    assert len(kept) == min(T, wanted) and kept[0] == 0 and kept[-1] == T - 1
    if len(kept) > 1:
        assert np.diff(kept).min() >= 1 and np.ptp(np.diff(kept)) <= 1


@pytest.mark.parametrize("until", ["06-30", "02-29", "12-31", "09-01"])
def test_no_date_after_the_cut_is_kept(until: str) -> None:
    kept = YEAR[choose(YEAR, Length(until=until), "2019")]
    last = np.datetime64("2019-02-28" if until == "02-29" else f"2019-{until}")
    assert kept.max() <= last and np.array_equal(kept, YEAR[last >= YEAR])


def test_the_cut_comes_before_the_number() -> None:
    kept = YEAR[choose(YEAR, Length(until="06-30", dates=4), "2019")]
    assert len(kept) == 4 and kept[-1] == YEAR[np.datetime64("2019-06-30") >= YEAR].max()


def test_random_dates_need_a_generator_and_are_even_without() -> None:
    rule = Length(dates=8, choose="random")
    assert np.array_equal(choose(YEAR, rule, "2019"), choose(YEAR, Length(dates=8), "2019"))
    drawn = choose(YEAR, rule, "2019", np.random.default_rng(1))
    assert len(set(drawn.tolist())) == 8 and (np.diff(drawn) > 0).all()
    assert np.array_equal(drawn, choose(YEAR, rule, "2019", np.random.default_rng(1)))
    assert not np.array_equal(drawn, choose(YEAR, rule, "2019", np.random.default_rng(2)))


def test_a_length_that_leaves_no_date_is_refused() -> None:
    with pytest.raises(BadInput, match=r"field lengths: length {'until': '08-31'} leaves no date of season 2018; move"):
        choose(YEAR, Length(until="08-31"), "2018")
