"""A simulated region in the layouts of the real archives, for the demo and tests. What it makes is called simulated.

Fields are polygons that keep their place; crops rotate on them. Each season has its own weather, from which sowing,
growth, ripening, harvest and drought follow by degree days; canopies reflect by a radiative transfer model; clouds,
shadows, swath edges and the sensor's noise lie over them. Everything follows from `study.seed` and the season's year
alone: a season is the same whichever others are made beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

from stcln import storage
from stcln.data.archive import SIMULATED
from stcln.data.simulate import cube, mtlcc, mtlcc_geotiff, pastis
from stcln.data.simulate.fields import Region, region
from stcln.data.simulate.scene import LAST, Season
from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.study import YEAR, Simulation, Study

Write = Callable[[Path, Region, Iterable[Season], Callable[[], None]], None]
LAYOUTS: Mapping[str, tuple[Write, int]] = {
    "mtlcc": (mtlcc.write, 6), "mtlcc-geotiff": (mtlcc_geotiff.write, 6), "pastis": (pastis.write, 2),
    "pastis-r": (pastis.write_with_radar, 2), "cube": (cube.write, 2),
}  # fmt: skip
"""How a layout is written, and of how many pixels a side of a tile must be a multiple: those of its coarsest bands."""


def simulate(target: Path, study: Study, seasons: Sequence[str], reporter: Reporter) -> None:
    """Write seasons of the study's simulated region under `target / dataset.root`, in the study's layout.

    Raises:
        BadInput: A tile does not hold whole pixels of the coarse bands, or a season is too short for its dates.
    """
    dataset = study.dataset
    starts = {int(name): dataset.start(name) for name in seasons}
    _write(target / dataset.root, dataset.layout, starts, study.simulation, study.seed, reporter)


def archive(
    target: Path, layout: str, seasons: Sequence[str], tiles: int, size: int, seed: int, reporter: Reporter
) -> None:
    """Write a simulated archive of its own, whole or not at all: for use without a study.

    Args:
        target: Must not exist.
        layout: `mtlcc` and `mtlcc-geotiff` (January to November), `pastis`, `pastis-r` (with radar) or `cube`
            (September to November of the next year).
        seasons: Years.
        tiles: Tiles a season.
        size: Side of a tile, pixels of 10 m.
        seed: Of everything drawn.
        reporter: Told of every tile.

    Raises:
        BadInput: `target` exists, the layout is unknown, a season is no year, or the size does not fit.
    """
    if target.exists():
        raise BadInput(target, "it exists already", "name a directory that does not")
    if layout not in LAYOUTS:
        raise BadInput("--layout", f"{layout!r} is no layout", f"choose one of {', '.join(LAYOUTS)}")
    if bad := [name for name in seasons if not YEAR.fullmatch(name)]:
        raise BadInput("--season", f"{', '.join(bad)}: not a year", "give years such as 2019")
    if tiles < 1 or size < 1:
        raise BadInput("--tiles, --size", f"{tiles} tiles of {size} pixels", "give numbers from 1")
    if seed < 0:
        raise BadInput("--seed", f"{seed} is negative", "give a number from 0")
    starts = {
        int(name): date(int(name), 1, 1) if layout.startswith("mtlcc") else date(int(name) - 1, 9, 1)
        for name in seasons
    }
    with storage.whole_directory(target) as part:
        _write(part, layout, starts, Simulation(tiles=tiles, size=size), seed, reporter)


def _write(
    root: Path, layout: str, starts: Mapping[int, date], settings: Simulation, seed: int, reporter: Reporter
) -> None:
    write, multiple = LAYOUTS[layout]
    if settings.size % multiple:
        problem = f"{settings.size} is no multiple of {multiple}, as the coarse bands of layout {layout} need"
        raise BadInput("params.yaml, field simulation.size", problem, "change the size")
    for year, start in starts.items():
        if (days := (date(year, *LAST) - start).days) <= settings.dates:
            problem = f"{settings.dates} dates do not fit into the {days} days of season {year}"
            raise BadInput("params.yaml, field simulation.dates", problem, "lower the number")
    ground = region(seed, settings.tiles, settings.size, apart=layout != "cube")
    total = settings.tiles * len(starts)
    done = iter(range(1, total + 1))
    root.mkdir(parents=True, exist_ok=True)
    (root / SIMULATED).write_text("The data in this directory are simulated: no satellite saw them.\n")
    seasons = (Season(ground, seed, year, start, settings.dates) for year, start in starts.items())
    write(root, ground, seasons, lambda: reporter.progress("simulate tiles", next(done), total))
