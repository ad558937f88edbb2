"""What of a season is due on a day. A cell whose time has not come is no failure: it is left for later, and said so."""

from datetime import date, timedelta

import numpy as np

from assets.plan import Step
from stcln.data.lengths import last_day, reached
from stcln.data.store import SeasonStore
from stcln.study import Study
from stcln.workspace import Workspace

YEAR = timedelta(days=366)
LATE = timedelta(days=14)
"""How long after its end a season is still fetched: its last images come late, and whole lengths are due only then."""


def running(study: Study, today: date) -> list[str]:
    """The study's seasons that are under way on a day, or ended in the last two weeks."""
    starts = {season: study.dataset.start(season) for season in study.cells.season}
    return [season for season, start in starts.items() if start <= today < start + YEAR + LATE]


def waits(study: Study, season: str, length: str, today: date, last_image: date | None) -> str:
    """Why a length of a season is not due on a day; empty if it is.

    A length with `until` is due on the day after that day, once the season's images reach it. Any other is due when the
    season is over, 366 days after its start; then all are, whatever the archive holds.

    Args:
        study: The study.
        season: The season.
        length: The length.
        today: The day.
        last_image: The day of the newest image that the season's store holds; None without a store.
    """
    end, until = study.dataset.start(season) + YEAR, study.lengths[length].until
    if today >= end:
        return ""
    if not until:
        return f"season {season} is under way until {end}"
    cut = last_day(until, season)
    if np.datetime64(today) <= cut:
        return f"its last day, {cut}, has not passed"
    if last_image is None:
        return f"season {season} has not been prepared"
    if not reached(last_image, until, season):
        return f"its last day is {cut}, the images of season {season} end on {last_image}"
    return ""


def step_waits(workspace: Workspace, step: Step, today: date) -> str:
    """Why a step is not due on a day; empty if it is. Cells wait, and what is made of scores where there are none."""
    study = workspace.study
    if "length" in step.keys:
        season = step.keys["season"]
        return waits(study, season, step.keys["length"], today, _last_image(workspace, season, today))
    if step.stage in ("report", "export") and not any(workspace.root.glob("reports/cells/*/*/*/scores.json")):
        return "no cell has been scored"
    return ""


def _last_image(workspace: Workspace, season: str, today: date) -> date | None:
    """Of a season under way; of one that is over nobody asks."""
    path = workspace.season(season)
    if today >= workspace.study.dataset.start(season) + YEAR or not path.is_dir():
        return None
    return SeasonStore.open(path).last_image
