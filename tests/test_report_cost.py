"""Cost beside quality: counted in what DVC tracks, measured beside it where the study ran, and nowhere else."""

from pathlib import Path

import pytest
from made_study import make

from stcln import report, runs, storage
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.report import cost
from stcln.report.collect import collect
from stcln.report.measured import measured, three
from stcln.workspace import Workspace

CELL = ("2018", "full", "scratch")
STEPS = {"scratch@2018-full-scratch": "finetuned", "evaluate-scratch@2018-full-scratch": "cell"}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make(tmp_path, seasons=("2018",), lengths=("full",), seeds=2)


def ran(place: Workspace, **change: object) -> None:
    """Records of both steps of a cell, as if they had run here."""
    for stage, output in STEPS.items():
        home = getattr(place, output)(*CELL)
        with runs.record(place, stage, home) as more:
            more["summary"] = {"predict_seconds_per_km2": 4.56} if output == "cell" else {}
        path = place.run_record(stage)
        taken = {"seconds": 1234.0, "cpu_seconds": 3000.0, "peak_memory": 2_500_000_000, "gpu_joules": 0.0}
        storage.write_json(path, storage.read_json(path) | taken | change)


def files(place: Workspace) -> dict[str, bytes]:
    report.report(place, Silent())
    return {path.name: path.read_bytes() for path in place.report.iterdir()}


def test_the_report_counts_the_same_numbers_in_every_form(place: Workspace) -> None:
    found = files(place)
    page, text, rows = found["index.html"].decode(), found["report.md"].decode(), storage.read_json(
        place.report / "report.json")["cost"]  # fmt: skip
    assert [(row["arm"], row["parameters"], row["map_multiply_adds_per_km2"]) for row in rows] == [
        ("scratch", 61_234, 4 * 10**12), ("pretrained", 61_234, 4 * 10**12),
    ]  # fmt: skip
    assert rows[0]["training_multiply_adds"] == 3 * 10**12 + 3407.5, "the mean over two seeds"
    assert rows[0]["miou"]["n"] == 2
    own = next(t for t in collect(place).tests if (t.season, t.length, t.arm, t.tested) == (*CELL, "2018"))
    line = ["2018", "full", "scratch", rows and cost.rows(collect(place))[0].miou.text(), "61.2 k", "4.00 T", "1.00 T"]
    assert f"| {' | '.join(line)} | 3.00 T |" in text and rows[0]["miou"]["mean"] == own.values["miou"].mean()
    assert "<td>61.2 k</td><td>4.00 T</td><td>1.00 T</td><td>3.00 T</td>" in page
    assert all("70.0 T multiply-adds in 20 epochs" in form for form in (page, text))


def test_what_dvc_tracks_is_the_same_whatever_was_measured(place: Workspace) -> None:
    before = files(place)
    ran(place)
    assert files(place) == before
    assert b"1,234" not in before["index.html"] and b"reports/index.html" in before["index.html"]


def test_beside_it_stand_seconds_and_energy_of_the_cells_that_ran_here(place: Workspace) -> None:
    ran(place)
    files(place)
    page = (place.report.parent / "index.html").read_text()
    texts = ("1,234", "3,000", "2.50", "10.0", "1,234", "10.0", "4.56")  # 3,000 s of 12 W are 10 Wh
    assert "".join(f"<td>{text}</td>" for text in texts) in page
    assert page.count("<td>no record here</td>") == 2, "the training and evaluation of the other cell"
    assert (
        "2 of 5 trainings and evaluations have a record here" in page and "12 W for a busy core, an assumption" in page
    )
    found = storage.read_json(place.report.parent / "cost.json")
    assert found["training 2018-full-scratch"]["watt_hours"] == pytest.approx(10)
    assert found["training 2018-full-pretrained"] is None and found["pretrain"] is None


def test_a_model_that_came_from_elsewhere_is_not_given_the_seconds_of_another(place: Workspace) -> None:
    ran(place)
    path = place.finetuned(*CELL) / "lineage.json"
    path.write_text(path.read_text() + " ")
    found = measured(place).cells[CELL]
    assert found["training"] is None and found["evaluation"] is not None


def test_where_nothing_ran_here_the_page_says_so_and_shows_no_zero(place: Workspace) -> None:
    files(place)
    page = (place.report.parent / "index.html").read_text()
    assert (
        "No training or evaluation of what stands has a record here" in page
        and page.count("<td>no record here</td>") == 4
    )


def test_a_record_of_an_older_version_counts_as_none(place: Workspace) -> None:
    ran(place)
    for stage in STEPS:
        path = place.run_record(stage)
        record = storage.read_json(path)
        storage.write_json(path, {key: record[key] for key in ("stage", "output", "started", "seconds", "device")})
    assert set(measured(place).cells[CELL].values()) == {None}


def test_energy_of_a_gpu_that_nobody_counted_is_a_dash(place: Workspace) -> None:
    ran(place, gpu_joules=None)
    taken = measured(place).cells[CELL]["training"]
    assert taken and taken.text("watt_hours") == "–" and taken.text("seconds") == "1,234"


def test_scores_without_a_cost_name_the_remedy(place: Workspace) -> None:
    path = place.cell(*CELL) / "scores.json"
    found = storage.read_json(path)
    del found["cost"]
    storage.write_json(path, found)
    with pytest.raises(BadInput, match=r"scratch/scores.json: not the scores of a cell: .*cost.*run `evaluate`"):
        collect(place)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.0123, "0.0123"), (1.5, "1.50"), (61.25, "61.2"), (999.7, "1,000"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits(number: float, text: str) -> None:
    assert three(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (12, "12.0"), (61_234, "61.2 k"), (3_248_341, "3.25 M"), (2.5e15, "2.50 P")]
)
def test_large_numbers_have_a_unit(number: float | None, text: str) -> None:
    assert cost.si(number) == text
