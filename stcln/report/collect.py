"""Read what the steps wrote: scores, histories, validation reports, lineage. No statistics here, and no drawing."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln import storage
from stcln.data.lengths import choose, reached
from stcln.data.splits import same_place
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.study import Study
from stcln.workspace import Workspace

METRICS = ("oa", "miou", "mf1", "kappa")
PARITY = METRICS[:3]  # what the paper reports
COSTS = ("parameters", "map_multiply_adds_per_km2", "tile_multiply_adds_per_km2")


@dataclass(frozen=True)
class Test:
    """A cell's models tested on one season.

    Attributes:
        season, length, arm: The cell.
        tested: The season tested on.
        seeds: One a model.
        values: By metric, float64 [seeds].
        parity: The same as the paper's code computes them: oa, miou, mf1.
        majority: Overall accuracy of the best constant answer.
        trained: Share of the tested pixels whose class had a training label, mean over seeds.
        f1: By class of the truth, float64 [seeds].
        confusion: int64 [K,K], truth by row, prediction by column, summed over seeds.
    """

    season: str
    length: str
    arm: str
    tested: str
    seeds: tuple[int, ...]
    values: Mapping[str, NDArray[np.float64]]
    parity: Mapping[str, NDArray[np.float64]]
    majority: float
    trained: float
    f1: Mapping[str, NDArray[np.float64]]
    confusion: NDArray[np.int64]

    @property
    def same(self) -> bool:
        """Whether it is tested on the season it was trained on."""
        return self.season == self.tested


@dataclass(frozen=True)
class Cell:
    """A cell's model: how it was selected, what it costs, how it learned, and the digests of what made its scores."""

    season: str
    length: str
    arm: str
    selection: str
    cost: Mapping[str, int]
    histories: Mapping[int, Mapping[str, Any]]
    digests: Mapping[str, str]

    @property
    def key(self) -> str:
        """Its name in a stage's name: `2018-full-pretrained`."""
        return f"{self.season}-{self.length}-{self.arm}"


@dataclass(frozen=True)
class Season:
    """A season's data: its validation report, NDVI by class and month, and how many dates each length takes.

    Attributes:
        ndvi: By class, float64 [12]: median over the class's valid pixels by calendar month; NaN where none was seen.
        dates: By length, number of dates of the first tile.
    """

    name: str
    validation: Mapping[str, Any]
    ndvi: Mapping[str, NDArray[np.float64]]
    dates: Mapping[str, int]


@dataclass(frozen=True)
class Results:
    """Everything the report is made from, in the study's order. `apart`: the pairs of seasons that share no ground."""

    study: Study
    classes: tuple[str, ...]
    ignore: tuple[int, ...]
    bands: tuple[str, ...]
    tests: tuple[Test, ...]
    cells: tuple[Cell, ...]
    absent: tuple[str, ...]
    seasons: Mapping[str, Season]
    apart: frozenset[frozenset[str]]
    pretraining: Mapping[str, Any] | None
    root: Workspace
    simulated: bool

    @property
    def lengths(self) -> list[str]:
        """The lengths by their number of dates, fewest first."""
        most = {name: max(season.dates[name] for season in self.seasons.values()) for name in self.study.cells.length}
        return sorted(most, key=lambda name: most[name])

    @property
    def longest(self) -> str:
        """The length of most dates that has scores: what is drawn once is drawn of it."""
        return next(name for name in reversed(self.lengths) if any(test.length == name for test in self.tests))

    def relation(self, season: str, tested: str) -> str:
        """What the tested season is to the one trained on, in words."""
        if season == tested:
            return "its own season"
        return "another season" + " and place" * (frozenset((season, tested)) in self.apart)

    @property
    def another(self) -> str:
        """What the seasons not trained on are, in words, over all pairs."""
        pairs = {self.relation(*pair) for pair in combinations(self.study.cells.season, 2)}
        return pairs.pop() if len(pairs) == 1 else "another season, for some pairs also another place"

    def test(self, season: str, length: str, arm: str, tested: str) -> Test | None:
        """One test, or None where the cell has not been scored."""
        wanted = (season, length, arm, tested)
        return next((t for t in self.tests if (t.season, t.length, t.arm, t.tested) == wanted), None)


def collect(workspace: Workspace) -> Results:
    """Read all that the study's cells have written.

    Raises:
        BadInput: No cell has been scored, or a file that belongs to a scored cell is missing or broken.
    """
    study = workspace.study
    stores = {name: SeasonStore.open(workspace.season(name)) for name in study.cells.season}
    grid = [(s, n, a) for s in study.cells.season for n in study.cells.length for a in study.cells.arm]
    scored = [key for key in grid if (workspace.cell(*key) / "scores.json").exists()]
    if not scored:
        raise BadInput(
            workspace.root / "reports/cells", "no cell has been scored", "run `evaluate` for at least one cell"
        )
    scores = [_scores(workspace.cell(*key) / "scores.json") for key in scored]
    first = stores[study.cells.season[0]]
    history = workspace.pretrained / "history.json"
    return Results(
        study=study, classes=first.classes, ignore=first.ignore, bands=first.bands,
        tests=tuple(test for _, tests in scores for test in tests),
        cells=tuple(_cell(workspace, key, score) for key, (score, _) in zip(scored, scores, strict=True)),
        absent=tuple(_absent(study, key, stores[key[0]]) for key in grid if key not in scored),
        seasons={name: _season(study, store) for name, store in stores.items()},
        apart=frozenset(
            frozenset((a.season, b.season)) for a, b in combinations(stores.values(), 2) if not same_place(a, b)
        ),
        pretraining=storage.read_json(history) if history.exists() else None,
        root=workspace, simulated=any(store.simulated for store in stores.values()),
    )  # fmt: skip


def _absent(study: Study, key: tuple[str, str, str], store: SeasonStore) -> str:
    """The name of a cell without scores; where the season's images do not reach its cut-off, that it is not due."""
    until, last = study.lengths[key[1]].until, store.last_image
    early = until and not reached(last, until, key[0])
    return "-".join(key) + f" (not due: images end on {last})" * bool(early)


def _scores(path: Path) -> tuple[Mapping[str, Any], tuple[Test, ...]]:
    """A cell's scores as they stand, and as tests."""
    score = storage.read_json(path)
    try:
        cost = {name: score["cost"][name] for name in COSTS}
        return score | {"cost": cost}, tuple(_tests(score))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(path, f"not the scores of a cell: {error!r}", "run `evaluate` for the cell again") from None


def _tests(score: Mapping[str, Any]) -> Iterator[Test]:
    seeds = score["seeds"]
    for tested in seeds[0]["tests"]:
        runs = [seed["tests"][tested] for seed in seeds]
        names = [name for name in score["classes"] if any(name in run["per_class"] for run in runs)]
        yield Test(
            score["season"], score["length"], score["arm"], tested,
            seeds=tuple(seed["seed"] for seed in seeds),
            values={metric: np.array([run[metric] for run in runs], float) for metric in METRICS},
            parity={metric: np.array([run["parity"][metric] for run in runs], float) for metric in PARITY},
            majority=runs[0]["majority_oa"],
            trained=float(np.mean([run["trained_share"] for run in runs])),
            f1={name: np.array([_f1(run["per_class"].get(name)) for run in runs]) for name in names},
            confusion=np.sum([run["confusion"] for run in runs], axis=0),
        )  # fmt: skip


def _f1(scores: Mapping[str, Any] | None) -> float:
    return np.nan if scores is None or scores["f1"] is None else float(scores["f1"])


def _cell(workspace: Workspace, key: tuple[str, str, str], score: Mapping[str, Any]) -> Cell:
    model = workspace.finetuned(*key)
    histories = {s["seed"]: model / f"seed-{s['seed']}" / "history.json" for s in score["seeds"]}
    read = {seed: storage.read_json(path) for seed, path in histories.items() if path.exists()}
    return Cell(*key, score["selection"], score["cost"], read, _digests(workspace, key))


def _digests(workspace: Workspace, key: tuple[str, str, str]) -> dict[str, str]:
    """The digests recorded on the way from a cell's scores to the archive; `trace` compares them with what stands."""
    cell, model, store = workspace.cell(*key), workspace.finetuned(*key), workspace.season(key[0])
    made = {name: storage.read_json(path / "lineage.json") for name, path in
            (("cell", cell), ("model", model), ("store", store))}  # fmt: skip
    read, raw = made["store"]["inputs"], _under(workspace, workspace.raw)
    digests = {
        "scores": made["cell"]["outputs"].get("scores.json"),
        "model": made["cell"]["inputs"].get(_under(workspace, model)),
        "encoder": made["model"]["inputs"].get(_under(workspace, workspace.pretrained)),
        "store": made["model"]["inputs"].get(_under(workspace, store)),
        "archive": _joined({path: digest for path, digest in read.items() if Path(path).is_relative_to(raw)}),
        "code": made["model"]["code"],
    }
    return {name: value for name, value in digests.items() if value}


def _under(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()


def _season(study: Study, store: SeasonStore) -> Season:
    dates = {name: len(choose(store.dates(0), study.lengths[name], store.season)) for name in study.cells.length}
    validation = storage.read_json(path := store.path / "validation.json")
    if "marks" not in validation:
        raise BadInput(path, "written by an older version", f"run `prepare --season {store.season}` again")
    ndvi = {
        name: np.array([months.get(f"{month:02}", np.nan) for month in range(1, 13)])
        for name, months in validation["ndvi"].items()
        if store.classes.index(name) not in store.ignore
    }
    return Season(store.season, validation, ndvi, dates)


def _joined(parts: dict[str, str]) -> str:
    """One digest of the parts of the archive that a season was read from; of a single part its own."""
    if len(parts) < 2:
        return next(iter(parts.values()), "")
    return hashlib.md5(json.dumps(parts, sort_keys=True).encode()).hexdigest()
