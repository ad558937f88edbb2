"""What Dagster shows of a trial."""

from pathlib import Path

import pytest
import yaml
from made_study import make

from assets import show
from stcln import report, storage
from stcln.events import Silent
from stcln.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make(tmp_path_factory.mktemp("study"), lengths=("full",), seeds=1)
    path = made.season("2018") / "validation.json"
    storage.write_json(path, storage.read_json(path) | {"trial": {"limit": 2}})
    report.report(made, Silent())
    return made.root


def test_the_archive_shows_what_it_was_narrowed_to_and_a_whole_one_nothing(place: Path) -> None:
    assert "trial" not in show.archive(Workspace(place))
    params = yaml.safe_load((place / "params.yaml").read_text())
    params["dataset"] |= {"layout": "mtlcc", "only": {"fold": 1, "limit": 2}}
    (place / "params.yaml").write_text(yaml.safe_dump(params))
    assert show.archive(Workspace(place))["trial"] == "fold=1,limit=2"


def test_a_season_and_the_report_count_the_tiles_of_a_trial(place: Path) -> None:
    assert show.store(Workspace(place), "2018")["trial"] == "a trial on 6 tiles"
    assert "trial" not in show.store(Workspace(place), "2019")
    assert show.report(Workspace(place))["trial"] == "a trial on 6 tiles of 2018"
