"""validation.json: what a season store holds, what was left out and why, and whether the numbers look like crops."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stcln.data.prepare import marks
from stcln.data.prepare.count import Count
from stcln.data.prepare.distance import Ground, Place, separation
from stcln.data.prepare.ndvi import Greenness
from stcln.data.readers.reading import MERGED, OUTSIDE, UNSORTED, Reader
from stcln.data.splits import ROLES, RoleName, plays
from stcln.data.tile import VOID
from stcln.study import Study

RULES = {
    UNSORTED: "Dates are put in ascending order.",
    MERGED: "Of several images of one day every pixel takes the first that is valid there, in the archive's order.",
    OUTSIDE: "Dates before day 0 of the season, or 475 days or more after it, are left out.",
}
SOUTH = "EPSG:327"  # UTM zones south of the equator


@dataclass
class Extent:
    """Smallest and largest valid value of every band; empty as long as there was none."""

    low: list[int] = field(default_factory=list)
    high: list[int] = field(default_factory=list)

    def add(self, low: Sequence[int], high: Sequence[int]) -> None:
        """Widen it to those of a tile."""
        if low:
            self.low = [min(pair) for pair in zip(self.low or low, low, strict=True)]
            self.high = [max(pair) for pair in zip(self.high or high, high, strict=True)]

    def named(self, bands: Sequence[str]) -> dict[str, list[int]]:
        """[low, high] by band."""
        return {name: [low, high] for name, low, high in zip(bands, self.low, self.high, strict=False)}


@dataclass
class Orbit:
    """Radar of one orbit direction: images by day, extent, and pixels known of all."""

    images: Counter[str] = field(default_factory=Counter)
    extent: Extent = field(default_factory=Extent)
    known: int = 0
    pixels: int = 0


class Tally:
    """Adds up the counts of a season's tiles; in whatever order they come, the document is the same.

    Args:
        study: Whose roles the tiles play.
        season: Its name.
        reader: Where the tiles come from. What its `findings` hold is added to those of the counts.

    Attributes:
        rejected: Why a tile was left out, by id; to be filled.
        extent: Of the valid reflectance.
    """

    def __init__(self, study: Study, season: str, reader: Reader) -> None:
        self.study, self.season, self.reader = study, season, reader
        self.rejected: dict[str, str] = {}
        self.extent = Extent()
        self._classes: dict[str, Counter[str]] = {}
        self._splits: Counter[str] = Counter()
        self._images: Counter[str] = Counter()  # by day
        self._findings: dict[str, dict[str, int]] = {}
        self._same: dict[str, dict[tuple[float, ...], list[str]]] = {"ground": {}, "images": {}}
        self._places: dict[str, Place] = {}
        self._orbits: dict[str, Orbit] = {}
        self._greenness = Greenness(season, reader.classes, reader.bands)

    def add(self, count: Count) -> None:
        """Add a tile that goes into the store."""
        self.extent.add(count.low, count.high)
        for split in count.split.split():
            self._splits[split] += 1
            self._classes.setdefault(split, Counter()).update(count.classes)
        self._images.update(count.days)
        for what, events in count.findings.items():
            self._findings.setdefault(what, {})[count.id] = events
        self._same["ground"].setdefault(tuple(count.transform), []).append(count.id)
        self._same["images"].setdefault(tuple(count.images), []).append(count.id)
        self._places[count.id] = Place.of(count)
        for name, radar in count.radar.items():
            orbit = self._orbits.setdefault(name, Orbit())
            orbit.images.update(radar["days"])
            orbit.extent.add(radar["low"], radar["high"])
            orbit.known, orbit.pixels = orbit.known + radar["known"], orbit.pixels + radar["pixels"]
        self._greenness.add(count)

    def document(self) -> dict[str, Any]:
        """The content of validation.json."""
        reader, only = self.reader, self.study.dataset.only
        absent = {why: list(ids) for why, ids in reader.absent.items()}
        found = {
            "tiles": len(self._places),
            "listed_ids": len(reader.ids) + sum(map(len, absent.values())),
            "absent_ids": sum(map(len, absent.values())),
            "rejected_tiles": len(self.rejected),
            "images": self._images.total(),
            **self._greenness.clouds(),
            "absent": absent,
            "unlisted": {why: list(ids) for why, ids in reader.unlisted.items()},
            "rejected": self.rejected,
            "findings": self._found(),
            "duplicates": {f"same_{what}": _groups(ids.values()) for what, ids in self._same.items()},
            "splits": dict(self._splits),
            "dates_per_month": _by_month(self._images),
            "pixels_per_class": self._pixels(),
            "reflectance_range": self.extent.named(reader.bands),
            "ndvi": self._greenness.medians(),
            "leaves": self._greenness.leaves(),
            "radar": {
                name: _radar(orbit, [band for band in self.reader.bands if band.startswith(f"{name}_")])
                for name, orbit in self._orbits.items()
            },
            "distance": self._distance(),
            "trial": only.model_dump(mode="json", exclude_defaults=True) if self.study.dataset.trial else None,
        }  # fmt: skip
        south = any(place.crs.startswith(SOUTH) for place in self._places.values())
        signs = {"bands": marks.of_bands(found, self.study.dataset.ignore, south), "values": marks.of_values(found)}
        return found | {"marks": signs}

    def _found(self) -> dict[str, Any]:
        """What was repaired, with the rule by which it was."""
        every = {what: dict(tiles) for what, tiles in self._findings.items()}
        for what, tiles in self.reader.findings.counts.items():
            every.setdefault(what, {}).update(tiles)
        return {
            what: {"tiles": len(tiles), "events": sum(tiles.values()), "by_tile": tiles}
            | ({"rule": rule} if (rule := RULES.get(what.rpartition(": ")[2])) else {})  # `S1A: ` before radar's
            for what, tiles in every.items()
        }

    def _pixels(self) -> dict[str, dict[str, int]]:
        names = {str(index): name for index, name in enumerate(self.reader.classes)} | {
            str(VOID): "(outside every class)"
        }
        return {split: {names[k]: n for k, n in counts.items()} for split, counts in self._classes.items()}

    def _distance(self) -> dict[str, Any]:
        """From the labelled ground of test tiles to that of each other role; to all of the ground that pre-trains."""
        tested = self._playing("test")
        return {role: found for role in ROLES[:-1] if (found := separation(tested, self._playing(role)))}

    def _playing(self, role: RoleName) -> list[Ground]:
        """The ground of the tiles that play a role, by id."""
        rule, lists = getattr(self.study.splits, role), self.study.method.lists
        places = [self._places[name] for name in sorted(self._places)]
        playing = [place for place in places if plays(rule, place.id, place.split, lists)]
        grounds = [Ground.of(place) if role == "pretrain" else Ground.labelled(place) for place in playing]
        return [ground for ground in grounds if ground]


def _groups(same: Iterable[Sequence[str]]) -> list[list[str]]:
    """Ids of tiles that are alike, group by group."""
    return sorted(sorted(ids) for ids in same if len(ids) > 1)


def _by_month(images: Iterable[str]) -> dict[str, int]:
    """Days with an image, by month `2016-05`."""
    return dict(Counter(day[:7] for day in images))


def _radar(orbit: Orbit, bands: Sequence[str]) -> dict[str, Any]:
    return {
        "images": orbit.images.total(),
        "dates_per_month": _by_month(orbit.images),
        "missing_share": 1 - orbit.known / max(orbit.pixels, 1),
        "decibel_x100_range": orbit.extent.named(bands),
    }
