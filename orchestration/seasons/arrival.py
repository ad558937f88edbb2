"""What has arrived at a source since the last look, what is still arriving, and what has gone. Starts nothing.

What must outlive a restart is `Memory`, which the sensor keeps in its cursor.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from orchestration.seasons import source
from stcln.errors import BadInput, NoAnswer
from stcln.study import Study
from stcln.workspace import Workspace

MB = 1e6


@dataclass(frozen=True)
class Memory:
    """What a look leaves for the next one.

    Attributes:
        arriving: Seasons that have not been launched, and the version of their files at the last look.
        held: Seasons of the study that the source has held, and the version of their files when last looked at.
        gone: Those that it no longer did at the last look.
    """

    arriving: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    @classmethod
    def of(cls, cursor: str | None) -> "Memory":
        """What a cursor holds; of a cursor of another version, nothing."""
        try:
            found = json.loads(cursor or "{}")
            return cls(dict(found["arriving"]), dict(found["held"]), tuple(found["gone"]))
        except (ValueError, KeyError, TypeError):
            return cls()

    def text(self) -> str:
        """As a cursor."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Look:
    """One look at a source.

    Attributes:
        ready: Seasons to register and launch, and the version of their files.
        said: What is waited for or has gone, a sentence each.
        news: What is new in it since the look before: seasons of the study that have gone or changed, a sentence each.
        memory: For the next look.
    """

    ready: Mapping[str, str]
    said: tuple[str, ...]
    news: tuple[str, ...]
    memory: Memory


def look(workspace: Workspace, memory: Memory) -> Look:
    """Look at a workspace's source.

    A season is ready when its files (names, sizes, times) were the same at the look before and its reader can read it.
    One that stands in params.yaml already and was not launched yet is ready then too: a tick that was killed has put it
    there, or a person.

    Raises:
        BadInput: The source cannot be reached.
    """
    study = workspace.study
    at = source.top(workspace)
    if at is None:
        problem = f"{study.dataset.source} is not watched: it does not grow, or cannot be listed."
        return Look({}, (problem,), (), memory)
    ready: dict[str, str] = {}
    arriving: dict[str, str] = {}
    held = dict(memory.held)
    with source.looking(at):
        found = source.held(at, study.dataset)
        said = [f"{name} cannot be read yet: {why}." for name, why in found.unreadable.items()]
        for season in found.seasons:
            try:
                here = source.season(at, study.dataset, season)
                if season in study.cells.season and season not in memory.arriving:
                    held[season] = here.version
                    continue
                arriving[season] = here.version
                if memory.arriving.get(season) != here.version:
                    size = f"{here.files} files, {here.bytes / MB:.1f} MB"
                    said.append(f"Season {season} is arriving, {size}: taken up if the next look finds the same.")
                    continue
                source.try_reading(here)
                ready[season] = here.version
            except NoAnswer:
                raise
            except BadInput as error:
                if season in held:  # it may be in the midst of a correction
                    continue
                said.append(f"Season {season} cannot be read yet: {str(error).rstrip('.')}.")
    gone = _gone(study, memory, found)
    changed = tuple(season for season, version in memory.held.items() if held[season] != version)
    said += _told(study.dataset.source, gone, changed)
    newly = tuple(season for season in gone if season not in memory.gone)
    news = tuple(_told(study.dataset.source, newly, changed))
    return Look(ready, tuple(said), news, Memory(arriving, held, gone))


def _told(source: str, gone: Sequence[str], changed: Sequence[str]) -> list[str]:
    """A sentence for each season that is gone from a source or has changed there."""
    remedy = "Bring it back, or take it out of cells.season in params.yaml."
    return [
        *(f"Season {name} is gone from {source}: its store, models and scores stay. {remedy}" for name in gone),
        *(f"Season {name} has changed at {source}: materialise raw_archive with `again`." for name in changed),
    ]


def launched(memory: Memory, seasons: Mapping[str, str]) -> Memory:
    """The memory after seasons were launched: they arrive no more."""
    waiting = {season: version for season, version in memory.arriving.items() if season not in seasons}
    return Memory(waiting, {**memory.held, **seasons}, memory.gone)


def _gone(study: Study, memory: Memory, found: source.Held) -> tuple[str, ...]:
    """Seasons of the study that were there and are not; while something cannot be read, it may be one of them."""
    if found.unreadable:
        return memory.gone
    return tuple(s for s in memory.held if s in study.cells.season and s not in found.seasons)
