"""The step `prepare`: a season of the archive, tile by tile, into a season store with its validation and lineage.

Tiles are made by all cores and put aside as they are ready; a run that was broken goes on with those that lack.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from stcln import stages
from stcln.data import archive, pool, store
from stcln.data.prepare.staging import Staging, key_of
from stcln.data.prepare.tiles import Task, Work
from stcln.data.prepare.validation import Tally
from stcln.data.readers.reading import Reader, batches
from stcln.data.store.packed import Packed
from stcln.data.store.write import assemble
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.storage import whole_directory, write_json
from stcln.study import Study
from stcln.workspace import Workspace

LARGEST_PLAIN = 2  # reflectance that is not x 10,000 stays below
LIMITS = {"max_rejected", "max_absent"}  # which may be raised after a failure without making the tiles again
TILES_A_WORKER = 16  # fewer do not repay the start of a process


def prepare(workspace: Workspace, season: str, reporter: Reporter) -> dict[str, Value]:
    """Write the store of a season. Broken tiles are left out by name; what cannot be used leaves nothing behind.

    The same archive, parameters and code give the same bytes, whatever the number of workers and breaks.

    Args:
        workspace: The study's.
        season: Its name, a year.
        reporter: Told every rejected tile and every kind of repair.

    Returns:
        Counts of tiles, rejected tiles, absent ids and images; the share of pixels not seen.

    Raises:
        BadInput: The archive lacks the season or a list, or more of its tiles are broken than `dataset.max_rejected`
            allows, or absent than `dataset.max_absent`; a linked archive changed before its last tile was read.
    """
    study, root = workspace.study, archive.root(workspace)
    stage = stages.name_of("prepare", season=season)
    unkeyed = Work(study, season, root, Staging(workspace.resume(stage), ""))
    reader = unkeyed.reader()
    header = _header(study, season, reader, archive.simulated(workspace))
    _check_absent(study, season, reader)
    sources = archive.inputs(workspace, reader.sources)
    params = study.model_dump(mode="json", include={"dataset", "splits", "method"}, exclude={"dataset": LIMITS})
    work = replace(unkeyed, staging=replace(unkeyed.staging, key=key_of(params, sources, workspace.root)))
    rejected = _make(work, reader, workspace, reporter)
    archive.root(workspace)  # it was read for hours: a linked one must still be what was linked
    tally = Tally(study, season, reader)
    for number in sorted(rejected):  # without the workspace's place: the same wherever it stands
        tally.rejected[reader.ids[number]] = str(rejected[number]).replace(f"{workspace.root}/", "")
    with whole_directory(workspace.season(season)) as part:
        assemble(part, _counted(work.staging, reader, tally, reporter), header)
        _check_scale(tally)
        validation = tally.document()
        write_json(part / "validation.json", validation)
        stages.write_lineage(part, workspace, "prepare", sources, season=season)
    work.staging.clear()
    _tell(season, validation, reporter)
    return {key: validation[key] for key in ("tiles", "rejected_tiles", "absent_ids", "images", "invalid_share")}


def _tell(season: str, validation: Mapping[str, Any], reporter: Reporter) -> None:
    """What a person should know of a season without opening its validation report."""
    for what, ids in (validation["absent"] | validation["unlisted"]).items():
        if ids:
            reporter.note(f"season {season}: {what}", {"ids": len(ids), "first": " ".join(ids[:5])})
    for what, found in validation["findings"].items():
        reporter.note(f"season {season}: {what}", {"tiles": found["tiles"], "events": found["events"]})
    for mark in (*validation["marks"]["bands"], *validation["marks"]["values"]):
        reporter.note(f"season {season} looks odd: {mark}")


def _header(study: Study, season: str, reader: Reader, simulated: bool) -> store.Header:
    if unknown := [name for name in study.dataset.ignore if name not in reader.classes]:
        problem = f"no class {', '.join(map(repr, unknown))} among {', '.join(reader.classes)}"
        raise BadInput("params.yaml, field dataset.ignore", problem, "name classes of the data set")
    return store.Header(
        season=season, start=study.dataset.start(season), layout=study.dataset.layout, bands=reader.bands,
        classes=reader.classes, ignore=tuple(reader.classes.index(name) for name in study.dataset.ignore),
        simulated=simulated,
    )  # fmt: skip


def _check_absent(study: Study, season: str, reader: Reader) -> None:
    absent, allowed = sum(map(len, reader.absent.values())), study.dataset.max_absent
    if absent > allowed * (listed := absent + len(reader.ids)):
        why = "; ".join(f"{len(ids)} {what}" for what, ids in reader.absent.items() if ids)
        problem = f"{absent} of {listed} tiles of season {season} are absent: {why}"
        raise BadInput("data/raw", problem, f"fetch the archive again, or raise dataset.max_absent ({allowed:g})")


def _make(work: Work, reader: Reader, workspace: Workspace, reporter: Reporter) -> dict[int, BadInput]:
    """Put all tiles aside that are whole and alike; returns the others by number, and why."""
    ready, rejected = work.staging.open(), dict[int, BadInput]()
    if ready:
        reporter.note(f"{len(ready)} tiles are ready from a run that was broken")

    def count(number: int, error: BadInput | None) -> None:
        if error:
            rejected[number] = error
            reporter.note(f"tile {reader.ids[number]} rejected: {error}")
            _check_rejected(workspace.study, reader, rejected, error)
        else:
            ready.add(number)
        reporter.progress("tile", len(ready) + len(rejected), len(reader.ids))

    do = work.by(reader)
    for number in range(len(reader.ids)):  # up to the first that is whole, to which the others are compared
        if number not in ready:
            count(*do([(number, reader.ids[number])])[0])
        if number in ready:
            work = replace(work, first=replace(work.staging.read(number)[0], chunks={}))
            break
    tasks = _tasks(reader, ready | rejected.keys())
    workers = min(pool.most(workspace.study.compute.threads), sum(map(len, tasks)) // TILES_A_WORKER)
    do = work.by(reader)
    with closing(pool.run(work, tasks, workers) if workers > 1 else (do(task) for task in tasks)) as done:
        for found in done:
            for number, error in found:
                count(number, error)
    return rejected


def _tasks(reader: Reader, done: set[int]) -> list[Task]:
    numbers = {name: number for number, name in enumerate(reader.ids)}
    tasks = [[(numbers[name], name) for name in names if numbers[name] not in done] for names in batches(reader)]
    return [task for task in tasks if task]


def _check_rejected(study: Study, reader: Reader, rejected: dict[int, BadInput], last: BadInput) -> None:
    share = study.dataset.max_rejected
    if len(rejected) > share * len(reader.ids):
        problem = f"{len(rejected)} of {len(reader.ids)} tiles are broken; the last: {last.problem}"
        raise BadInput(last.where, problem, f"{last.remedy}, or raise dataset.max_rejected ({share:g})")


def _counted(staging: Staging, reader: Reader, tally: Tally, reporter: Reporter) -> Iterator[Packed]:
    """The tiles that were put aside, in order, counted on their way into the store."""
    kept = [number for number, name in enumerate(reader.ids) if name not in tally.rejected]
    for done, number in enumerate(kept, 1):
        tile, count = staging.read(number)
        tally.add(count)
        yield tile
        reporter.progress("tile stored", done, len(kept))


def _check_scale(tally: Tally) -> None:
    if tally.extent.high and max(tally.extent.high) <= LARGEST_PLAIN:
        problem = (
            f"no valid value of the season is above {max(tally.extent.high)}: reflectance seems not to be x 10,000"
        )
        raise BadInput("data/raw", problem, "multiply it, or give a cube's bands their CF scale_factor")
