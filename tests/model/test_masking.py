import pytest
import torch

from stcln.errors import BadInput
from stcln.model.compute import generator
from stcln.model.masking import Share, draw, vegetation

ALL = torch.ones(4, 12, 16, 16, dtype=torch.bool)


def greens(*shares: float) -> torch.Tensor:
    """bool [1,T,10,10] with the given share of green pixels on each date."""
    flat = torch.arange(100)[None, :] < torch.tensor([round(100 * share) for share in shares])[:, None]
    return flat.view(1, -1, 10, 10)


@pytest.mark.parametrize("kind", ["pixel", "date", "batch-date"])
@pytest.mark.parametrize("ratio", [0.15, 0.4, 0.8])
def test_the_share_hidden_is_the_ratio_asked_for(kind, ratio):
    rng = generator(0, kind)
    draws = [draw(kind, ratio, ALL, ALL, 0.9, rng, redraw=False) for _ in range(400)]
    share = sum(counts.hidden for _, counts in draws) / (400 * ALL.numel())
    independent = 400 * {"pixel": ALL.numel(), "date": 48, "batch-date": 12}[kind]
    assert abs(share - ratio) < 4 * (ratio * (1 - ratio) / independent) ** 0.5


def test_counts_are_exact():
    valid = torch.rand((4, 12, 16, 16), generator=generator(1)) > 0.3
    green = torch.ones_like(valid)
    green[0] = False
    hidden, counts = draw("pixel", 0.4, green, valid, 0.9, generator(2))
    assert counts.hidden == int(hidden.sum()) == hidden.nonzero().shape[0]
    assert counts.open == int(valid[1:].sum())
    assert counts.valid == int(valid.sum())


def test_pixels_are_drawn_one_by_one_and_dates_whole():
    pixels, _ = draw("pixel", 0.4, ALL, ALL, 0.9, generator(3))
    dates, _ = draw("date", 0.4, ALL, ALL, 0.9, generator(3))
    batch, _ = draw("batch-date", 0.4, ALL, ALL, 0.9, generator(3))
    assert 0 < int(pixels[0, 0].sum()) < 256
    assert set(dates.sum(dim=(2, 3)).flatten().tolist()) == {0, 256}
    assert not torch.equal(dates[0], dates[1])
    assert all(torch.equal(batch[0], sample) for sample in batch)
    assert 0 < int(batch.sum()) < batch.numel()


def test_only_dates_with_more_than_nine_tenths_green_are_hidden():
    green = greens(0.89, 0.90, 0.91, 1.0)
    hidden, counts = draw("date", 0.999, green, torch.ones_like(green), 0.9, generator(4))
    assert hidden.any(dim=3).any(dim=2).tolist() == [[False, False, True, True]]
    assert counts.open == 200


def test_the_gate_looks_at_valid_pixels_and_only_they_are_hidden():
    green, valid = greens(0.5, 0.5), greens(0.5, 1.0)
    hidden, _ = draw("date", 0.999, green, valid, 0.9, generator(5))
    assert torch.equal(hidden[0, 0], valid[0, 0])
    assert not hidden[0, 1].any()


def test_without_a_gate_bare_soil_is_hidden_too_but_never_a_padded_date():
    valid = greens(1.0, 0.0)
    hidden, _ = draw("pixel", 0.5, torch.zeros_like(valid), valid, 0.0, generator(6))
    assert hidden[0, 0].any()
    assert not hidden[0, 1].any()


def test_an_empty_mask_is_drawn_again_where_anything_may_be_hidden():
    one = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    for seed in range(20):
        assert draw("pixel", 0.1, one, one, 0.9, generator(seed))[1].hidden == 1
    assert {draw("pixel", 0.1, one, one, 0.9, generator(s), redraw=False)[1].hidden for s in range(40)} == {0, 1}


def test_a_shut_gate_ends_with_nothing_hidden_and_says_so():
    _, counts = draw("pixel", 0.4, torch.zeros_like(ALL), ALL, 0.9, generator(7))
    assert (counts.hidden, counts.open, counts.valid) == (0, 0, ALL.numel())


def test_the_same_generator_gives_the_same_mask():
    first, again, other = (draw("pixel", 0.4, ALL, ALL, 0.9, generator(s))[0] for s in (8, 8, 9))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("names", [("B2", "B4", "B8"), ("B02", "B04", "B08")])
def test_vegetation_is_ndvi_of_red_and_near_infrared(names):
    reflectance = torch.tensor([[500, 400, 4000], [500, 2000, 2400], [0, 0, 0]], dtype=torch.int16)[:, :, None, None]
    assert vegetation(reflectance, names).flatten().tolist() == [True, False, False]


def test_vegetation_without_its_bands_names_the_missing_one():
    with pytest.raises(BadInput, match="no B4 among"):
        vegetation(torch.zeros(1, 2, 3, 3), ("B02", "B08"))


@pytest.mark.parametrize("kind", ["pixel", "date", "batch-date"])
def test_the_shares_of_a_batch_are_masked_as_the_batch_is(kind):
    valid = torch.rand((5, 4, 6, 6), generator=generator(11)) > 0.3
    hidden, counts = draw(kind, 0.4, valid, valid, 0.0, generator(12), redraw=False)
    for first, end in ((0, 2), (2, 4), (4, 5)):
        share = Share(first, 5, lambda *own: (counts.hidden, counts.open, counts.valid))
        part, whole = draw(kind, 0.4, valid[first:end], valid[first:end], 0.0, generator(12), False, share)
        assert torch.equal(part, hidden[first:end]) and whole == counts


def test_a_share_in_which_nothing_is_hidden_is_drawn_again_only_if_the_whole_batch_is():
    valid, asked = torch.ones(1, 1, 2, 2, dtype=torch.bool), []

    def total(hidden: int, possible: int, seen: int) -> tuple[int, int, int]:
        asked.append(hidden)
        return (0 if len(asked) < 4 else 1), possible, seen

    hidden, _ = draw("pixel", 1e-6, valid, valid, 0.0, generator(13), share=Share(1, 2, total))
    assert asked == [0, 0, 0, 0] and not hidden.any()
