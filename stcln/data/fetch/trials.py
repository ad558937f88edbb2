"""A trial: of a source's files those that `dataset.only` takes, read out of remote zips in ranges.

Which tiles these are is `stcln.data.only`'s business; here it becomes names of files, and the files are brought.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stcln.data.fetch.archives import is_archive
from stcln.data.fetch.line import Line
from stcln.data.fetch.members import put, sweep
from stcln.data.fetch.remote_zip import RemoteZip
from stcln.data.fetch.sources import Remote, open_source
from stcln.data.only import listed_patches, listed_tiles, narrow, parse
from stcln.errors import BadInput
from stcln.parameters import change
from stcln.study import Dataset, Study
from stcln.workspace import Workspace

FIELD = "params.yaml, field dataset.only"
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class _Layout:
    """Names of files below `dataset.root`.

    Attributes:
        tile: A file of a tile, with its `id` and, where it has one, the `year` of its season.
        main: The file of a tile without which the archive does not hold it.
        lists: What describes all tiles.
    """

    tile: re.Pattern[str]
    main: re.Pattern[str]
    lists: re.Pattern[str]


ANY = re.compile("")
TREE = re.compile(r"tileids/[^/]+|classes\.txt|geotransforms\.csv|dataset\.ini|SIMULATED\.txt")
LAYOUTS = {
    "mtlcc": _Layout(re.compile(r"data(?P<year>\d\d)/(?P<id>[^/]+)\.tfrecord\.gz"), ANY, TREE),
    "mtlcc-geotiff": _Layout(re.compile(r"data(?P<year>\d\d)?/(?P<id>[^/]+)/[^/]+\.tif"), ANY, TREE),
    "pastis": _Layout(
        re.compile(r"(DATA_S2/S2|DATA_S1A/S1A|DATA_S1D/S1D|ANNOTATIONS/TARGET)_(?P<id>[^/]+)\.npy"),
        re.compile("DATA_S2/"),
        re.compile(r"metadata\.geojson|NORM[^/]*\.json|SIMULATED\.txt"),
    ),
}


def declare(workspace: Workspace, text: str) -> Workspace:
    """Write `dataset.only` into params.yaml, so that DVC, lineage and reports know what is a trial.

    Args:
        workspace: All else in its study stays as it is.
        text: The words of `--only`, see `only.parse`.

    Returns:
        The workspace with the changed study.

    Raises:
        BadInput: The words are not understood, or the study cannot be narrowed.
    """
    only = parse(text).model_dump(mode="json", exclude_defaults=True)
    change(workspace.root / "params.yaml", "dataset", lambda dataset: dataset.__setitem__("only", only))
    return Workspace(workspace.root)


def choose(study: Study, names: Iterable[str], read: Read) -> list[str]:
    """The files that a trial takes: those of its tiles, and the lists and descriptions of all.

    Args:
        study: With `dataset.only`; each of its seasons counts for itself.
        names: All files of the archive, posix paths.
        read: Gives the content of a list.

    Returns:
        Some of `names`, in their order.

    Raises:
        BadInput: A list is missing or broken, a tile is in no list, or no tile is taken.
    """
    dataset, layout = study.dataset, LAYOUTS[study.dataset.layout]
    names = list(names)
    below, lists = _below(dataset, names), _lists(dataset, names)
    files = {name: found for name in below if (found := layout.tile.fullmatch(name))}
    splits = _splits(study, lists, read)
    taken: set[str] = set()
    for season, listed in splits.items():
        mine = {name: at["id"] for name, at in files.items() if at.groupdict().get("year") in (None, season[-2:])}
        wanted, _ = narrow(dataset.only, listed, {tile for name, tile in mine.items() if layout.main.match(name)})
        taken |= {name for name, tile in mine.items() if tile in wanted}
    known = {tile for listed in splits.values() for tile in listed}
    if not known:
        raise BadInput(
            f"{dataset.source}, {dataset.root}", "no tile is listed there", "check dataset.root and the seasons"
        )
    if unknown := [tile for tile in dataset.only.tiles if tile not in known]:
        problem = f"{', '.join(unknown)} in no list of {dataset.source} for seasons {', '.join(splits)}"
        raise BadInput(FIELD, problem, "name tiles that it lists")
    if not taken:
        problem = f"it takes none of the {len(known)} tiles that {dataset.source} lists"
        raise BadInput(FIELD, problem, "choose other tiles or another fold")
    return [whole for name, whole in below.items() if name in taken or name in lists]


def bring(study: Study, remotes: Sequence[Remote], target: Path, line: Line) -> list[Remote]:
    """Bring what a trial takes out of the zips among a source's files, each member by its bytes alone.

    Args:
        study: With `dataset.only`.
        remotes: All files of the source.
        target: A directory for this alone, missing at first. It survives a kill: a member that stands there by size and
            CRC is not asked for again. What it holds goes where it belongs by `members.merge`.
        line: Hears how far it is.

    Returns:
        The other files that the trial takes, still to be downloaded.

    Raises:
        BadInput: A server hands out no ranges, an archive is a tar or unsafe, a member is broken, or see `choose`.
    """
    plain = {remote.name: remote for remote in remotes if not is_archive(remote.name)}
    packed = [remote for remote in remotes if is_archive(remote.name)]
    if tars := [remote.name for remote in packed if not remote.name.lower().endswith(".zip")]:
        problem = f"{tars[0]} has no directory of its members, so that a few cannot be read out of it"
        raise BadInput(FIELD, problem, "fetch all of it with `fetch --only all`")
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        zips = [stack.enter_context(RemoteZip(remote, line)) for remote in packed]
        names = [*plain, *(name for found in zips for name in found.members)]
        if twice := len(names) - len(set(names)):
            problem = f"{twice} names stand in more than one of {[remote.name for remote in remotes]}"
            raise BadInput("params.yaml, field dataset.files", problem, "name one of them")
        lists = set(_lists(study.dataset, names).values())
        for found in zips:
            found.extract(lists, target)
        for name in sorted(lists & plain.keys()):
            content = b"".join(open_source(plain[name], line).read(0, None))
            put(io.BytesIO(content), name, len(content), target, plain[name].url)
        chosen = set(choose(study, names, lambda name: (target / name).read_bytes()))
        sweep(target, {target / name for name in chosen})
        for found in zips:
            found.extract(chosen, target)
    return [remote for name, remote in plain.items() if name in chosen - lists]


def _below(dataset: Dataset, names: Iterable[str]) -> dict[str, str]:
    """The names below `dataset.root`: as seen from there, and whole."""
    root = PurePosixPath(dataset.root)
    prefix = f"{root}/" if root.parts else ""
    return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}


def _lists(dataset: Dataset, names: Iterable[str]) -> dict[str, str]:
    """Of these the lists and descriptions."""
    lists = LAYOUTS[dataset.layout].lists
    return {name: whole for name, whole in _below(dataset, names).items() if lists.fullmatch(name)}


def _splits(study: Study, lists: Mapping[str, str], read: Read) -> dict[str, dict[str, str]]:
    """Native splits by season and id, from the layout's own lists."""
    dataset, seasons = study.dataset, study.cells.season
    if dataset.layout != "pastis":
        found = {PurePosixPath(name).stem: whole for name, whole in lists.items() if name.endswith(".tileids")}
        listed = listed_tiles({name: read(whole).decode(errors="replace") for name, whole in found.items()})
        return dict.fromkeys(seasons, listed)
    if (whole := lists.get("metadata.geojson")) is None:
        raise BadInput(f"{dataset.source}, {dataset.root}", "no metadata.geojson there", "check dataset.root")
    content = read(whole)
    try:
        document = json.loads(content)
        return {season: listed_patches(document, dataset.start(season)) for season in seasons}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(whole, f"not a collection of patches: {error!r}", "get another archive") from None
