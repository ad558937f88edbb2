"""What the report claims in words, and what it owns up to, follows the numbers and the stores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import make

from stcln.report.collect import collect
from stcln.report.differences import differences, numbers
from stcln.report.finding import headline
from stcln.report.markdown import markdown, summary
from stcln.report.page import page
from stcln.spread import Spread
from stcln.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize(
    ("values", "settled"), [((0.02, 0.03, 0.05), False), ((0.05, 0.05, 0.06), True), ((0.5,), False)]
)
def test_a_difference_is_settled_where_its_interval_leaves_out_zero_and_nowhere_else(
    place: Workspace, values: tuple[float, ...], settled: bool
) -> None:
    found = replace(differences(collect(place))[0], miou=Spread.of(np.array(values)))
    assert numbers(found)[0][1] is settled
    if values == (0.02, 0.03, 0.05):
        assert numbers(found)[0][0] == "+3.3 (−0.5 to +7.1)"


def test_the_tables_of_differences_name_what_is_compared_and_the_sign(place: Workspace) -> None:
    text, found = markdown(collect(place)), differences(collect(place))[0]
    assert "| pretrained arm | scratch arm | length | trained → tested | mIoU pretrained − scratch |" in text
    assert "| arm | length | tested on (own) | trained on (other) | mIoU own − other |" in text
    assert f"| 2018 → 2018 | {numbers(found)[0][0]} |" in text and found.miou.bounds() in numbers(found)[0][0]
    low, high = summary(collect(place))["pretrained_minus_scratch"][0]["miou"]["interval95"]
    assert (low, high) == pytest.approx(found.miou.interval())


def test_seasons_without_common_ground_are_called_another_place(tmp_path: Path) -> None:
    near, far = (collect(make(tmp_path / name, apart=apart)) for name, apart in (("near", 60), ("far", 73_000)))
    assert not near.apart and far.apart == {frozenset(("2018", "2019"))}
    finding, text = headline(far)[0], page(far)
    assert "on another season and place" in finding and "season without labels" not in finding
    assert "trained on 2018 → tested on 2019 (another season and place)" in text
    assert "What training on another season and place loses" in text and "share no ground" in text
    assert "same region" not in text and "2018 → 2019  another season and place" in text, "in the figure as well"
    assert "and place" not in page(near) and "lie in the same region" in page(near)


def test_a_score_capped_by_classes_without_labels_says_so(tmp_path: Path) -> None:
    capped, whole = (collect(make(tmp_path / str(share), trained=share)) for share in (0.14, 0.95))
    assert "Only 14 % of the tested pixels belong to a class the models had labels for." in headline(capped)[0]
    assert "Only" not in headline(whole)[0]
    some = replace(capped, tests=tuple(replace(t, trained=1.0) if t.tested == "2018" else t for t in capped.tests))
    assert "In 2018 → 2019, only 14 % of the tested pixels" in headline(some)[0]
    assert "<td>14%</td>" in page(capped) and "| 14% |" in markdown(capped) and "| 100% |" in markdown(capped)


def test_the_published_numbers_follow_the_main_table_under_their_own_name(place: Workspace) -> None:
    results = collect(place)
    test = results.test("2018", "full", "scratch", "2019")
    assert test
    means = " · ".join(f"{test.parity[metric].mean():.3f}" for metric in ("oa", "miou", "mf1"))
    for text in (page(results), markdown(results)):
        assert text.index("macro-F1") < text.index("By the published rule") < text.index(means)
    assert f"{test.values['miou'].mean():.3f}" not in means


@pytest.mark.parametrize("layout", ["cube", "mtlcc", "pastis"])
def test_limits_follow_the_layout(tmp_path: Path, layout: str) -> None:
    text = page(collect(make(tmp_path, layout=layout, seeds=1, lengths=("full",))))
    assert ("can share a field" in text) == (layout == "cube") == ("<td>23.1%</td>" in text)
    assert ("carries no cloud mask" in text) == (layout != "cube")


def test_an_encoder_that_saw_later_images_than_a_cut_allows_is_named(tmp_path: Path, place: Workspace) -> None:
    said = "Pre-training read length “full”: at “june” the encoder"
    assert said in page(collect(place))
    assert "Pre-training read length" not in page(collect(make(tmp_path, lengths=("full", "june"), seeds=1)))


def test_the_page_says_that_pre_training_was_not_repeated_and_the_champion_chosen_on_test_scores(
    tmp_path: Path, place: Workspace
) -> None:
    once = "pre-trained once, for all seeds, so spread and interval leave out the variance of pre-training"
    assert once in page(collect(place)) and "being chosen on test scores" in page(collect(place))
    assert once not in page(collect(make(tmp_path, pretrained=(), seeds=1)))
