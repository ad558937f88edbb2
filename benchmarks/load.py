"""How fast training is fed, against the published loaders, on simulated data of the real shape. Prints JSON lines.

    python benchmarks/load.py [--patches 16] [--tiles 16] [--rounds 5]

The published loaders run as one of their workers does (`published.py`): one thread, files in the page cache. Ours are
the batches that training is given. A figure is the median of rounds in turns, in seconds of CPU, which other programs
on the machine disturb little; only what many threads do together is timed by the clock.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from published import SEQUENCE, collated, patch, tile

from stcln.data.ahead import ahead
from stcln.data.fetch import fetch
from stcln.data.loader import Loader
from stcln.data.prepare import prepare
from stcln.data.samples import Sample, unlabelled
from stcln.data.series import Series
from stcln.data.splits import Selection
from stcln.data.store import SeasonStore, chunks
from stcln.events import Silent
from stcln.study import Length, Method
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[1] / "studies"
CROP, BATCH = 32, 4
PASTIS_DATES, MTLCC_DATES = 60, 66  # asked of the simulator, which drops the cloudiest: 40 to 51 and 40 to 52 remain


def say(what: str, **values: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps({"what": what} | {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}))


def workspace(root: Path, study: str, layout: str, **simulation: int) -> tuple[Workspace, str]:
    """A workspace with a simulated archive in a layout and its first season prepared; and that season's name."""
    params = yaml.safe_load((STUDIES / f"{study}.yaml").read_text())
    params["dataset"] |= {"source": "simulated", "layout": layout, "files": []}
    params |= {"pinned": {}, "simulation": simulation}
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    made = Workspace(root)
    season = made.study.cells.season[0]
    fetch(made, Silent())
    prepare(made, season, Silent())
    return made, season


def loader(samples: list[Sample], store: SeasonStore, length: Length | None = None, batch: int = BATCH) -> Loader:
    """Our loader of some samples."""
    return Loader(samples, batch, store.mean, store.std, Method(), 1, training=True, length=length)


def crops(store: SeasonStore, *, free: bool) -> Loader:
    """Our loader of as many 32 x 32 crops as fit side by side: there, or anywhere."""
    grid = range(0, store.size[0], CROP)
    chosen = [Selection(tile, y, x, CROP) for tile in range(len(store)) for y in grid for x in grid]
    return loader(unlabelled(store, chosen, Length(), Method(), random=free), store)


def timed(job: Callable[[int], Any], count: int, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds for each of `count` runs of a job."""
    begun = clock()
    for number in range(count):
        job(number)
    return (clock() - begun) / count


def compare(jobs: dict[str, tuple[Callable[[int], Any], int, int]], rounds: int) -> dict[str, float]:
    """Median seconds a sample of each job (function, runs in a round, samples in a run), taken in turns."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):  # the first warms up
        for name, (job, count, samples) in jobs.items():
            seconds = timed(job, count) / samples
            if number:
                found[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, seconds in medians.items():
        say(name, milliseconds=1e3 * seconds, samples_per_second=1 / seconds)
    return medians


def pastis(place: Path, patches: int, rounds: int) -> SeasonStore:
    """Crops of PASTIS-size patches."""
    made, season = workspace(place, "pastis", "pastis", tiles=patches, size=128, dates=PASTIS_DATES)
    store, root = SeasonStore.open(made.season(season)), made.raw / "PASTIS"
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    say("PASTIS, simulated", patches=len(store), dates=[len(store.dates(i)) for i in range(len(store))])

    def loaded(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [patch(root, store.ids[(number * BATCH + one) % patches], mean, std) for one in range(BATCH)]

    def drawn(number: int) -> list[Series]:
        rng = np.random.default_rng(number)
        return [free._draw(free.windows[i], rng) for i in rng.integers(len(free.windows), size=BATCH)]

    free, grid = crops(store, free=True), crops(store, free=False)
    found = compare(
        {
            "PASTIS crop, published: a whole patch a sample, collated": (
                lambda n: collated(loaded(n))[0][..., :CROP, :CROP],
                patches // BATCH,
                BATCH,
            ),
            "PASTIS crop, published, without collating": (loaded, patches // BATCH, BATCH),
            "PASTIS crop at a random place, ours, one thread": (lambda n: free.batch(1, n), patches, BATCH),
            "PASTIS crop at a random place, ours, without collating": (drawn, patches, BATCH),
            "PASTIS crop on the grid, ours, one thread": (lambda n: grid.batch(1, n), patches, BATCH),
        },
        rounds,
    )
    whole, alone, at_random, read, on_grid = found.values()
    say("PASTIS, ours against published", at_random=whole / at_random, on_grid=whole / on_grid, wanted=5)
    say("PASTIS, the same without collating on either side", at_random=alone / read)
    say("PASTIS, against published pre-training, which takes all 16 crops of a patch", on_grid=whole / 16 / on_grid)
    return store


def mtlcc(place: Path, tiles: int, size: int, rounds: int) -> None:
    """Tiles of MTLCC."""
    made, season = workspace(place, "mtlcc", "mtlcc-geotiff", tiles=tiles, size=size, dates=MTLCC_DATES)
    store = SeasonStore.open(made.season(season))
    folder = next((made.raw / made.study.dataset.root).glob("data*"))
    chosen = [Selection(tile, 0, 0, size) for tile in range(len(store))]
    drawn = Length(dates=SEQUENCE, choose="random")
    ours = loader(unlabelled(store, chosen, Length(), Method(), random=False), store, drawn, 1)
    say("MTLCC, simulated", tiles=len(store), side=size, dates=[len(store.dates(i)) for i in range(len(store))])
    rng = random.Random(1)
    found = compare(
        {
            f"MTLCC tile of {size} pixels, published: GeoTIFF": (
                lambda n: tile(folder / store.ids[n % len(store)], rng), tiles // 2, 1,
            ),
            f"MTLCC tile of {size} pixels, ours, one thread": (lambda n: ours.batch(1, n % tiles), 3 * tiles, 1),
        },
        rounds,
    )  # fmt: skip
    published, own = found.values()
    say(f"MTLCC tiles of {size} pixels, ours against published", ratio=published / own, wanted=10)


def scaling(store: SeasonStore, rounds: int) -> None:
    """Random crops per second by the number of threads, as training takes them, and what a crop costs all cores."""
    free = crops(store, free=True)

    def epoch(threads: int, number: int) -> None:
        with closing(ahead((partial(free.batch, number, step) for step in range(len(free))), threads)) as batches:
            for _ in batches:
                pass

    cores = len(os.sched_getaffinity(0))
    for threads in sorted({1, 2, cores, min(2 * cores, 8)}):
        cpu = time.process_time()
        taken = statistics.median(timed(partial(epoch, threads), 1, time.perf_counter) for _ in range(rounds))
        rate, cpu = len(free.windows) / taken, (time.process_time() - cpu) / rounds / len(free.windows)
        say(
            "random crops made ahead", threads=threads, crops_per_second=rate, per_core=rate / min(threads, cores),
            cpu_milliseconds=1e3 * cpu,
        )  # fmt: skip


@contextmanager
def watched(spent: dict[str, float], owner: Any, name: str, label: str) -> Iterator[None]:
    """Add the seconds spent in a function to `spent[label]`."""
    honest = getattr(owner, name)

    def counted(*args: Any) -> Any:
        begun = time.process_time()
        found = honest(*args)
        spent[label] = spent.get(label, 0.0) + time.process_time() - begun
        if label == "files":
            spent["bytes"] = spent.get("bytes", 0.0) + sum(map(len, found))
        return found

    setattr(owner, name, counted)
    yield
    setattr(owner, name, honest)


def parts(store: SeasonStore) -> None:
    """Where the time of a random crop goes, and what would remain if only bytes were moved and decoded."""
    free, spent = crops(store, free=True), dict[str, float]()
    steps = range(len(free))
    made = [free.batch(1, step) for step in steps]
    begun = time.process_time()
    with (
        watched(spent, chunks.Local, "read", "files"), watched(spent, chunks, "_checked", "checksums"),
        watched(spent, chunks.Sharded, "_decoded", "decode"), watched(spent, chunks.Sharded, "read", "read"),
        watched(spent, Loader, "_collate", "normalise"),
    ):  # fmt: skip
        for step in steps:
            free.batch(1, step)
    total, samples = time.process_time() - begun, len(free.windows)
    shares = {
        "read files": spent["files"], "checksums": spent["checksums"],
        "decompress": spent["decode"] - spent["checksums"],
        "copy the window out of the chunks": spent["read"] - spent["files"] - spent["decode"],
        "normalise and collate": spent["normalise"], "draw and the rest": total - spent["read"] - spent["normalise"],
    }  # fmt: skip
    say("share of a random crop's time, one thread", **{name: value / total for name, value in shares.items()})
    locked = shares["checksums"] + shares["copy the window out of the chunks"] + shares["draw and the rest"]
    given = sum(batch.images.nbytes + batch.reflectance.nbytes + batch.valid.nbytes for batch in made) / samples
    source, target = np.ones(1 << 26, np.uint8), np.empty(1 << 26, np.uint8)
    copied = (1 << 26) / timed(lambda _: np.copyto(target, source), 8)
    say(
        "limits, crops per second", as_now_per_core=samples / total,
        nothing_but_decompression_per_core=samples / shares["decompress"],
        nothing_but_copying_the_batch_per_core=copied / given, interpreter_lock_per_process=samples / locked,
        bytes_read_per_crop=round(spent["bytes"] / samples),
    )  # fmt: skip


def main() -> None:
    """Run everything in a temporary directory."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patches", 16), ("tiles", 16), ("rounds", 5)):
        asked.add_argument(f"--{name}", type=int, default=default)
    given = asked.parse_args()
    torch.set_num_threads(1)
    say("machine", cores=len(os.sched_getaffinity(0)), torch=torch.__version__, numpy=np.__version__)
    with tempfile.TemporaryDirectory() as place:
        store = pastis(Path(place, "pastis"), given.patches, given.rounds)
        for size in (48, 24):
            mtlcc(Path(place, f"mtlcc-{size}"), given.tiles, size, given.rounds)
        scaling(store, given.rounds)
        parts(store)


if __name__ == "__main__":
    main()
