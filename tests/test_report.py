import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from made_study import CROPS, make

from stcln import lineage, palette, report, stages, storage
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.report.collect import collect
from stcln.report.differences import differences, drops
from stcln.report.finding import _finding, headline
from stcln.report.page import page
from stcln.report.tables import table
from stcln.spread import Spread
from stcln.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def written(place: Workspace) -> Path:
    report.report(place, Silent())
    return place.report


class Links(HTMLParser):
    """Collects what a page refers to and what it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.names: list[str] = []
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.names.append(str(value))
            elif name == "href" and tag == "a":
                self.targets.add(str(value))
            elif name in ("src", "href", "xlink:href"):
                self.loaded.add(str(value)[:5])


def test_the_page_loads_nothing_and_every_link_has_its_target(written: Path) -> None:
    text = (written / "index.html").read_text()
    links = Links(text)
    assert all(start == "data:" or start.startswith("#") for start in links.loaded)
    assert "@import" not in text and "url(http" not in text and "<script" not in text
    assert {target.removeprefix("#") for target in links.targets} <= set(links.names)
    assert "2018-full-pretrained" in links.names, "a row of scores links to its lineage"
    assert len(text) < 1_000_000


def test_simulated_data_are_called_so_in_every_form(written: Path, tmp_path: Path) -> None:
    assert '<p class="warning">Simulated data.' in (written / "index.html").read_text()
    assert "simulated data" in (written / "index.html").read_text().split("<svg")[1], "in the figure as well"
    assert "> **Simulated data." in (written / "report.md").read_text()
    assert storage.read_json(written / "report.json")["simulated"] is True
    real = page(collect(make(tmp_path, source="/archive", seeds=1, seasons=("2018",), lengths=("full",))))
    assert not re.search("simulated", real.split("</style>")[1], re.IGNORECASE)


def test_a_trial_is_called_one_in_every_form(tmp_path: Path) -> None:
    place = make(tmp_path, seasons=("2018",), lengths=("full",), seeds=1)
    path = place.season("2018") / "validation.json"
    storage.write_json(path, storage.read_json(path) | {"trial": {"limit": 2}})
    report.report(place, Silent())
    assert '<p class="warning">A trial on 6 tiles of 2018. <span>' in (place.report / "index.html").read_text()
    assert "> **A trial on 6 tiles of 2018." in (place.report / "report.md").read_text()


def test_the_same_scores_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in written.iterdir()}
    assert set(first) == {"index.html", "report.md", "report.json", "figure3.png", "lineage.json"}
    other = make(tmp_path / "elsewhere")
    report.report(other, Silent())
    assert {path.name: path.read_bytes() for path in other.report.iterdir()} == first, "wherever the workspace lies"


def test_table_1_holds_mean_and_sample_deviation_over_seeds(place: Workspace) -> None:
    results = collect(place)
    test = results.test("2018", "full", "pretrained", "2019")
    row = next(
        r for r in table(results) if (r.season, r.tested, r.length, r.arm) == ("2018", "2019", "full", "pretrained")
    )
    scores = storage.read_json(place.cell("2018", "full", "pretrained") / "scores.json")
    values = [seed["tests"]["2019"]["miou"] for seed in scores["seeds"]]
    assert row.scores["miou"] == Spread(pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)), 3)
    assert len(table(results)) == 4 * 2 * 2 and test is not None
    assert {r.arm for r in table(results) if r.best} == {"pretrained"}


def test_differences_are_paired_by_seed(place: Workspace) -> None:
    results = collect(place)
    found = next(d for d in differences(results) if (d.season, d.tested, d.length) == ("2018", "2019", "full"))
    ours, theirs = (results.test("2018", "full", arm, "2019") for arm in ("pretrained", "scratch"))
    assert ours and theirs and found.against == "scratch"
    assert found.miou == Spread.of(ours.values["miou"] - theirs.values["miou"]) and found.miou.n == 3


def test_a_pretrained_arm_is_only_compared_with_a_scratch_arm_of_as_many_labels(tmp_path: Path) -> None:
    place = make(tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("  scratch:\n    labels: 0.05", "  scratch:\n    labels: 0.5"))
    results = collect(Workspace(place.root))
    assert differences(results) == []
    assert "nothing can be paired" in page(results) and headline(results)[1].endswith("No pair of arms to compare.")


def test_the_drop_compares_the_same_test_pixels(place: Workspace) -> None:
    results = collect(place)
    found = next(
        d for d in drops(results) if (d.season, d.tested, d.length, d.arm) == ("2018", "2019", "full", "scratch")
    )
    own, other = (results.test(season, "full", "scratch", "2019") for season in ("2019", "2018"))
    assert own and other
    assert found.miou.mean == pytest.approx((own.values["miou"] - other.values["miou"]).mean())


@pytest.mark.parametrize(
    ("gain", "said"),
    [(0.08, "Pre-training gained 8."), (-0.08, "Pre-training lost 7."), (-0.007, "no clear difference")],
)
def test_the_headline_says_what_the_numbers_say(tmp_path: Path, gain: float, said: str) -> None:
    finding, detail = headline(collect(make(tmp_path, gain=gain)))
    assert said in finding and "95 % interval" in finding
    assert "3 seeds, paired" in detail and "5% of the labels" in detail


def test_few_seeds_that_agree_badly_are_called_too_few() -> None:
    assert Spread.of(np.array([0.02, 0.03, 0.05])).interval() == pytest.approx((-0.0046, 0.0713), abs=1e-3)
    assert not np.isfinite(Spread.of(np.array([0.02, 0.021])).interval()).any(), (
        "two seeds: by Student's t anything goes"
    )
    assert Spread.of(np.array([0.05, 0.05, 0.06])).interval()[0] > 0


def test_one_seed_is_reported_without_a_spread(tmp_path: Path) -> None:
    results = collect(make(tmp_path, seeds=1))
    finding, detail = headline(results)
    assert (
        "interval" not in finding
        and finding.endswith("though 1 seed is too few to be sure.")
        and "nothing is known of the spread" in detail
    )
    assert all("±" not in row.scores["oa"].text() for row in table(results))
    assert "1 seed: there is no spread to judge by" in page(results)


@pytest.mark.parametrize("gain", [-0.0004, 0.0, 0.0004])
def test_a_difference_that_rounds_to_nothing_is_neither_gain_nor_loss(gain: float) -> None:
    assert _finding(Spread(gain, None, 1), "another season") == (
        "Pre-training left the mIoU as it was on another season, though 1 seed is too few to be sure."
    )


def test_one_season_one_arm_and_no_sample_still_make_a_report(tmp_path: Path) -> None:
    place = make(tmp_path, seasons=("2018",), lengths=("full",), pretrained=(), seeds=1)
    text = page(collect(place))
    assert "One season: nothing is said about another year." in text
    assert "This study has no pre-trained encoder." in text
    (place.cell("2018", "full", "scratch") / "maps.npz").unlink()
    assert "No cell kept a map." in page(collect(place))


def test_a_missing_cell_is_named_and_the_others_reported(tmp_path: Path) -> None:
    place = make(tmp_path, seeds=1)
    (place.cell("2019", "june", "scratch") / "scores.json").unlink()
    results = collect(place)
    assert results.absent == ("2019-june-scratch",)
    assert "Not yet scored and missing here: 2019-june-scratch." in page(results)


def test_what_is_drawn_once_is_drawn_of_the_longest_length_that_has_scores(tmp_path: Path) -> None:
    place = make(tmp_path, seeds=1)
    for season in ("2018", "2019"):
        for arm in ("scratch", "pretrained"):
            (place.cell(season, "full", arm) / "scores.json").unlink()
    results = collect(place)
    assert "Classes, at length “june”" in page(results) and "at length “june”" in headline(results)[1]


def test_without_any_score_the_sentence_names_the_remedy(tmp_path: Path) -> None:
    place = make(tmp_path, seasons=("2018",), lengths=("full",), pretrained=(), seeds=1)
    (place.cell("2018", "full", "scratch") / "scores.json").unlink()
    with pytest.raises(BadInput, match="no cell has been scored; run `evaluate`"):
        report.report(place, Silent())
    assert not place.report.exists()


def test_twenty_classes_and_a_hundred_cells_stay_a_small_page(tmp_path: Path) -> None:
    lengths = tuple(f"d{n}" for n in range(15))
    classes = tuple(f"crop {n}" for n in range(20))
    arms = {"scratch": ("s1", "s2"), "pretrained": ("p1", "p2")}
    place = make(tmp_path, lengths=lengths, seeds=1, classes=classes, **arms)
    assert len(page(collect(place))) < 2_500_000


def test_the_report_lists_the_digests_behind_every_cell(place: Workspace, written: Path) -> None:
    found = storage.read_json(written / "report.json")["lineage"]
    assert len(found) == 8
    scores = storage.digest(place.cell("2018", "full", "scratch") / "scores.json")
    assert found["2018-full-scratch"]["scores"] == scores
    assert found["2018-full-pretrained"]["archive"] == "a" * 32, "what the season was read from"
    assert set(found["2018-full-pretrained"]) == {"scores", "model", "encoder", "store", "archive", "code"}


def test_a_number_changed_by_hand_in_the_report_is_flagged(tmp_path: Path) -> None:
    place = make(tmp_path, seeds=1)
    report.report(place, Silent())
    record = storage.read_json(place.report / "lineage.json")
    assert record["stage"] == stages.name_of("report")
    text = (place.report / "report.json").read_text()
    (place.report / "report.json").write_text(text.replace('"simulated": true', '"simulated": false'))
    problems = lineage.trace(place.report, place).problems
    assert any(problem.startswith("reports/study/report.json changed since") for problem in problems)


def test_the_classes_are_counted_in_the_splits_that_the_study_uses(tmp_path: Path) -> None:
    place = make(tmp_path, seasons=("2018",), lengths=("full",), pretrained=(), seeds=1)
    path = place.season("2018") / "validation.json"
    found = storage.read_json(path)
    found["pixels_per_class"]["train_fold7"] = {"maize": 987654}
    storage.write_json(path, found)
    text = page(collect(place))
    assert "987,654" not in text and f"{found['pixels_per_class']['test']['maize']:,}" in text


def test_an_ordinary_switch_is_told_from_a_published_one(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert "position of a date: index (as published)" in text and "padded dates: masked\n" in text


def test_maps_and_figures_give_a_class_the_colour_of_the_palette(place: Workspace) -> None:
    from stcln.report import maps

    strip = maps.maps(collect(place))[0]
    image = (matplotlib.image.imread(io.BytesIO(dict(strip.images)["truth"])) * 255).round().astype(int)
    colours = {palette.rgb(colour) for colour in palette.of_classes(len(CROPS), (0,))}
    assert {tuple(pixel) for pixel in image[..., :3].reshape(-1, 3).tolist()} <= colours


def test_the_reconstruction_is_compared_with_the_plain_mean_of_the_shown_dates(place: Workspace) -> None:
    from stcln.report.maps import reconstruction

    found = reconstruction(place.pretrained / "sample.npz", ("B04", "B03", "B02", "B08"))
    assert found and found.error == pytest.approx(0.01, rel=0.1), "the noise that the sample was made with"
    assert found.error < found.baseline and len(found.strips) == 3 and found.series.startswith("<svg")


def test_a_class_keeps_its_colour_and_ignored_ones_are_grey() -> None:
    colours = palette.of_classes(24, (0, 19))
    assert len(set(colours)) == 24 and colours[0] == palette.GREY[0] and colours[19] == palette.GREY[1]
    assert palette.of_classes(9, (0,)) == palette.of_classes(24, (0,))[:9]
