"""The UI shows what a training and an evaluation cost: counted always, measured where it ran."""

from pathlib import Path

import dagster as dg
import pytest
from toy_workspace import Toy

from assets import show
from stcln import runs, storage

pytestmark = pytest.mark.orchestration
CELL = {"season": "2018", "length": "full", "arm": "scratch"}
TOOK = {"step_seconds", "cpu_seconds", "peak_memory_gb", "energy_wh_estimate"}


def metadata(toy: Toy, instance: dg.DagsterInstance, asset: str) -> dict[str, object]:
    (made,) = toy.one(instance, asset, "full|2018").asset_materializations_for_node(asset)
    return {name: value.value for name, value in made.metadata.items()}


def recorded(toy: Toy, stage: str, output: Path) -> None:
    """A record of a run here that made what stands."""
    (output / "lineage.json").write_text("{}")
    with runs.record(toy.plan.workspace, stage, output) as more:
        more["summary"] = {"predict_seconds_per_km2": 4.5}


def test_a_training_and_an_evaluation_show_their_cost(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    training, evaluation = (metadata(toy, instance, asset) for asset in ("finetuned_scratch", "evaluation_scratch"))
    assert training["multiply_adds"] == 5.0
    assert evaluation["map_multiply_adds_per_km2"] == 8.0 and evaluation["parameters"] == 3.0
    assert not TOOK & (training.keys() | evaluation.keys()), "the toy has no record of its runs"


def test_what_ran_here_shows_what_it_took(done: tuple[Toy, dg.DagsterInstance]) -> None:
    place = done[0].plan.workspace
    recorded(done[0], "scratch@2018-full-scratch", place.finetuned(**CELL))
    recorded(done[0], "evaluate-scratch@2018-full-scratch", place.cell(**CELL))
    training, evaluation = show.models(place, **CELL), show.scores(place, **CELL)
    assert training.keys() >= TOOK and all(isinstance(training[name], float) for name in TOOK)
    assert evaluation.keys() >= TOOK and evaluation["predict_seconds_per_km2"] == 4.5


def test_the_page_shown_is_the_one_with_seconds_only_where_the_report_was_made(
    done: tuple[Toy, dg.DagsterInstance],
) -> None:
    place = done[0].plan.workspace
    assert show.page(place) == place.report / "index.html"
    recorded(done[0], "report", place.report)
    assert show.page(place) == place.report.parent / "index.html"
    storage.write_text(place.report / "lineage.json", "pulled from elsewhere")
    assert show.page(place) == place.report / "index.html"
