"""New seasons: which ones a source holds, and how one enters params.yaml."""

import re
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from stcln.data.readers import cube
from stcln.data.readers.pastis_files import middle
from stcln.errors import BadInput
from stcln.parameters import change
from stcln.storage import read_json
from stcln.study import YEAR, Dataset, Study

FOLDER = re.compile(r"^data(\d\d)$")


def in_source(dataset: Dataset, root: Path) -> list[str]:
    """The seasons that a source directory holds, by its layout; none if the source is not a directory.

    Args:
        dataset: The study's data set.
        root: The workspace, from which a relative source is seen.
    """
    top = (root / dataset.source / dataset.root).resolve()
    if "://" in dataset.source or not top.is_dir():
        return []
    found = {"cube": _cubes, "mtlcc": _folders, "mtlcc-geotiff": _folders, "pastis": _dates}[dataset.layout]
    return sorted(found(top, dataset))


def _cubes(top: Path, dataset: Dataset) -> set[str]:
    """As the reader of cubes tells them; one that cannot be read yet is passed over, it may still be on its way."""
    found = set()
    for path in cube.paths(top):
        with suppress(BadInput):
            found.add(cube.Cube(path).season)
    return {season for season in found if YEAR.fullmatch(season)}


def _folders(top: Path, dataset: Dataset) -> set[str]:
    """`data19`; what `data` alone holds is not told by its name."""
    return {f"20{found[1]}" for path in top.iterdir() if (found := FOLDER.match(path.name)) and path.is_dir()}


def _dates(top: Path, dataset: Dataset) -> set[str]:
    """The seasons in which the patches' median dates lie."""
    path = top / "metadata.geojson"
    medians = {middle(str(path), feature["properties"]) for feature in read_json(path)["features"]}
    return {_season_of(date.fromisoformat(str(day)), dataset) for day in medians if day is not None}


def _season_of(day: date, dataset: Dataset) -> str:
    """The latest season that a patch of a median day is of: the one whose year from day 0 on holds that day."""
    return max(str(year) for year in (day.year, day.year + 1) if dataset.start(str(year)) <= day)


def running(study: Study, today: date) -> str | None:
    """The study's season that is under way on a day, if one is."""
    year = timedelta(days=366)
    under_way = [s for s in study.cells.season if study.dataset.start(s) <= today < study.dataset.start(s) + year]
    return max(under_way, default=None)


def register(path: Path, seasons: list[str]) -> None:
    """Add seasons to `cells.season` of a params.yaml; all else in it, comments included, stays as it is.

    Where params.yaml is a link to a study, the study is changed and the link stays.

    Raises:
        BadInput: The study would not be valid with them; the file is left as it was.
    """

    def add(cells: Any) -> None:
        known = cells["season"]
        known += [int(season) if isinstance(known[0], int) else season for season in seasons]

    change(path, "cells", add)
