"""The step `prepare`: a season of the archive, tile by tile, into a season store with its validation and lineage."""

from collections.abc import Callable, Iterator
from pathlib import Path

from stcln.data import store
from stcln.data.prepare.count import Count
from stcln.data.prepare.validation import Tally
from stcln.data.readers.cubes import Cubes
from stcln.data.readers.mtlcc import Mtlcc
from stcln.data.readers.mtlcc_geotiff import MtlccGeotiff
from stcln.data.readers.pastis import Pastis
from stcln.data.readers.reading import Reader, expect
from stcln.data.splits import plays
from stcln.data.tile import Tile
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.stages import write_lineage
from stcln.storage import whole_directory, write_json
from stcln.study import Dataset, Study
from stcln.workspace import Workspace

READERS: dict[str, Callable[[Path, Dataset, str], Reader]] = {
    "mtlcc": Mtlcc, "mtlcc-geotiff": MtlccGeotiff, "pastis": Pastis, "cube": Cubes,
}  # fmt: skip
LARGEST_PLAIN = 2  # reflectance that is not x 10,000 stays below


def prepare(workspace: Workspace, season: str, reporter: Reporter) -> dict[str, Value]:
    """Write the store of a season. Broken tiles are left out by name; what cannot be used leaves nothing behind.

    Args:
        workspace: The study's.
        season: Its name, a year.
        reporter: Told every rejected tile and every kind of repair.

    Returns:
        Counts of tiles, rejected tiles, absent ids and images; the share of pixels not seen.

    Raises:
        BadInput: The archive lacks the season or a list, or more than `dataset.max_rejected` of its tiles are broken.
    """
    study = workspace.study
    if not workspace.raw.is_dir():
        raise BadInput(workspace.raw, "no archive here", "run `python -m stcln fetch` first")
    reader = READERS[study.dataset.layout](workspace.raw / study.dataset.root, study.dataset, season)
    tally = Tally(study, season, reader)
    header = _header(study, season, reader)
    with whole_directory(workspace.season(season)) as part:
        store.write(part, _sound(reader, tally, workspace, reporter), header, lambda tile: _trained_on(study, tile))
        _check_scale(tally)
        validation = tally.document()
        write_json(part / "validation.json", validation)
        write_lineage(part, workspace, "prepare", reader.sources, season=season)
    for what, ids in validation["absent"].items():
        if ids:
            reporter.note(f"season {season}: {what}", {"ids": len(ids), "first": " ".join(ids[:5])})
    for what, found in validation["findings"].items():
        reporter.note(f"season {season}: {what}", {"tiles": found["tiles"], "events": found["events"]})
    return {key: validation[key] for key in ("tiles", "rejected_tiles", "absent_ids", "images", "cloud_share")}


def _header(study: Study, season: str, reader: Reader) -> store.Header:
    if unknown := [name for name in study.dataset.ignore if name not in reader.classes]:
        problem = f"no class {', '.join(map(repr, unknown))} among {', '.join(reader.classes)}"
        raise BadInput("params.yaml, field dataset.ignore", problem, "name classes of the data set")
    return store.Header(
        season=season, start=study.dataset.start(season), layout=study.dataset.layout, bands=reader.bands,
        classes=reader.classes, ignore=tuple(reader.classes.index(name) for name in study.dataset.ignore),
        simulated=study.simulated,
    )  # fmt: skip


def _sound(reader: Reader, tally: Tally, workspace: Workspace, reporter: Reporter) -> Iterator[Tile]:
    """The tiles that are whole and alike; the others are noted."""
    share = workspace.study.dataset.max_rejected
    allowed = share * len(reader.ids)
    first: Tile | None = None
    for done, name in enumerate(reader.ids, 1):
        try:
            tile = reader.read(name)
            first = first or tile
            _check_alike(name, tile, first)
        except BadInput as error:
            tally.rejected[name] = str(error).replace(f"{workspace.root}/", "")  # the same wherever it stands
            reporter.note(f"tile {name} rejected: {error}")
            if len(tally.rejected) > allowed:
                problem = f"{len(tally.rejected)} of {len(reader.ids)} tiles are broken; the last: {error.problem}"
                remedy = f"{error.remedy}, or raise dataset.max_rejected ({share:g})"
                raise BadInput(error.where, problem, remedy) from error
        else:
            tally.add(Count.of(tile, reader.bands, {}))  # its findings are the reader's
            yield tile
        reporter.progress("tile", done, len(reader.ids))


def _check_alike(name: str, tile: Tile, first: Tile) -> None:
    expect(
        f"tile {name}", f"an image (first tile: {first.id})", tile.reflectance.shape[1:], first.reflectance.shape[1:]
    )
    if tile.crs != first.crs:
        raise BadInput(f"tile {name}", f"lies in {tile.crs}, tile {first.id} in {first.crs}", "keep one crs a season")


def _check_scale(tally: Tally) -> None:
    if (high := max(tally.extent.high, default=LARGEST_PLAIN + 1)) <= LARGEST_PLAIN:
        problem = f"no valid value of the season is above {high}: reflectance seems not to be x 10,000"
        raise BadInput("data/raw", problem, "multiply it, or give a cube's bands their CF scale_factor")


def _trained_on(study: Study, tile: Tile) -> bool:
    roles = (study.splits.train, study.splits.pretrain)
    return any(plays(role, tile.id, tile.split, study.method.lists) for role in roles)
