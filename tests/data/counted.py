"""validation.json of tiles in memory, for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_study import BANDS, CLASSES, STUDY

from stcln.data.prepare.count import Count
from stcln.data.prepare.validation import Tally
from stcln.data.readers.reading import Findings
from stcln.data.tile import Tile
from stcln.study import Study

SEASON = "2017"


class Archive:
    """A reader's static part."""

    def __init__(self, ids: Sequence[str] = (), bands: Sequence[str] = BANDS, classes: Sequence[str] = CLASSES) -> None:
        self.bands, self.classes, self.ids = tuple(bands), tuple(classes), tuple(ids)
        self.sources: Sequence[Path] = ()
        self.absent: Mapping[str, Sequence[str]] = {"listed, no record": ["x1", "x2"]}
        self.unlisted: Mapping[str, Sequence[str]] = {"record, in no list": ["y1", "y2", "y3"]}
        self.findings = Findings()

    def read(self, tile: str) -> Tile:
        raise NotImplementedError


def counted(tiles: Sequence[Tile], bands: Sequence[str] = BANDS, **study: Any) -> dict[str, Any]:
    """validation.json of tiles, in a study with sections changed."""
    made = Study.model_validate(STUDY | study)
    tally = Tally(made, SEASON, Archive([tile.id for tile in tiles], bands))
    for tile in tiles:
        tally.add(Count.of(tile, bands, {}))
    return tally.document()
