"""How fast an archive becomes a season store, on simulated data of the real shape. Prints JSON lines.

    python benchmarks/prepare.py [--tiles 300] [--times 6] [--patches 24] [--rounds 3]

The least that must be done with the same files is timed beside the step, in turns: for MTLCC gunzip (zlib, as `gzip`
does it) and the CRC-32C of each file; for PASTIS `np.load` and the store's own compression. The step is all of it:
reading, checks, counts for the validation report, compression, the store's files, the digests of its lineage. A figure
is the median of the rounds; files lie in the page cache. Ratios are of CPU time in one process, which other work on the
machine does not change, and of wall time.
"""

import argparse
import gzip
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import psutil
import yaml
from isal import igzip

from stcln.data import prepare as step
from stcln.data.fetch import fetch
from stcln.data.prepare import prepare
from stcln.data.prepare.count import Count
from stcln.data.prepare.staging import Staging
from stcln.data.prepare.tiles import Work
from stcln.data.store.packed import coded, pack
from stcln.events import Silent
from stcln.storage import digest
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[1] / "studies"
PASTIS_DATES, MTLCC_DATES = 54, 66  # asked of the simulator, which drops the cloudiest: about 43 and 46 remain
GUNZIP = {"gunzip (zlib) and CRC": gzip, "gunzip (ISA-L) and CRC": igzip}
MIB = 1 << 20


def say(what: str, **values: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps({"what": what} | {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}))


def workspace(root: Path, study: str, layout: str, **simulation: int) -> Workspace:
    """A workspace with one season of a simulated archive in a layout."""
    params = yaml.safe_load((STUDIES / f"{study}.yaml").read_text())
    params["dataset"] |= {"source": "simulated", "layout": layout, "files": []}
    params["cells"]["season"] = params["pretrain"]["seasons"] = params["cells"]["season"][:1]
    params |= {"pinned": {}, "simulation": simulation}
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    fetch(Workspace(root), Silent())
    return Workspace(root)


def season_of(made: Workspace) -> str:
    """The only season of a workspace."""
    return made.study.cells.season[0]


Times = tuple[float, float]
"""Seconds by the clock and of this process's CPU time."""


def prepared(made: Workspace, workers: int) -> Times:
    """What the step takes."""
    params = yaml.safe_load((made.root / "params.yaml").read_text())
    (made.root / "params.yaml").write_text(yaml.safe_dump(params | {"compute": {"threads": workers}}))
    shutil.rmtree(made.seasons, ignore_errors=True)
    return timed(lambda: prepare(Workspace(made.root), season_of(made), Silent()))


def timed(job: Callable[[], Any]) -> Times:
    """What a job takes."""
    begun = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def compare(what: str, made: Workspace, tiles: int, least: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """The step in one process against the least, in turns."""
    jobs: dict[str, Callable[[], Times]] = {name: partial(timed, job) for name, job in least.items()}
    jobs["prepare"] = partial(prepared, made, 1)
    found: dict[str, list[Times]] = {name: [] for name in jobs}
    for number in range(rounds + 1):  # the first warms up
        for name, job in jobs.items():
            times = job()
            if number:
                found[name].append(times)
    raw, store = size_of(made.raw), size_of(made.season(season_of(made)))
    say(what, tiles=tiles, raw_mib=raw / MIB, store_mib=store / MIB)
    medians = {name: np.median(times, axis=0) * 1e3 / tiles for name, times in found.items()}
    for name, (wall, cpu) in medians.items():
        say(f"{what}: {name}, one process", milliseconds_a_tile=float(wall), cpu_milliseconds=float(cpu))
    for name in least:
        wall, cpu = medians["prepare"] / medians[name]
        limit = {} if "ISA-L" in name else {"wanted": 3}
        say(f"{what}: prepare against {name}", ratio=float(cpu), by_the_clock=float(wall), **limit)
    parts(what, made)


def size_of(folder: Path) -> int:
    """Bytes of all files of a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parts(what: str, made: Workspace) -> None:
    """Where the time of a tile goes before it is put aside."""
    season = season_of(made)
    with tempfile.TemporaryDirectory() as place:
        work = Work(made.study, season, made.raw, Staging(Path(place), "key"))
        work.staging.open()
        reader, spent = work.reader(), dict.fromkeys(("read", "count", "pack", "put aside"), 0.0)
        for number, name in enumerate(reader.ids):
            at = [time.perf_counter()]
            tile = reader.read(name)
            at.append(time.perf_counter())
            count = Count.of(tile, reader.bands, {})
            at.append(time.perf_counter())
            packed = pack(tile, trained_on=True)
            at.append(time.perf_counter())
            work.staging.write(number, packed, count)
            at.append(time.perf_counter())
            for part, seconds in zip(spent, np.diff(at).tolist(), strict=True):
                spent[part] += 1e3 * seconds / len(reader.ids)
    say(f"{what}: milliseconds of a tile", **spent)


def gunzipped(folder: Path, module: Any) -> None:
    """The least for MTLCC: every file unpacked and its checksum taken."""
    for path in sorted(folder.glob("*.tfrecord.gz")):
        with module.open(path) as stream:
            google_crc32c.value(stream.read())


def loaded(folder: Path) -> None:
    """The least for PASTIS: every patch loaded and compressed."""
    for path in sorted(folder.glob("*.npy")):
        for _ in coded(np.load(path)):
            pass


def multiplied(made: Workspace, times: int) -> int:
    """Give an MTLCC archive so many times its tiles: the same records under further ids. Returns how many there are."""
    records, root = next(made.raw.rglob("data[0-9][0-9]")), next(made.raw.rglob("geotransforms.csv")).parent
    ids = [path.name.partition(".")[0] for path in records.iterdir()]
    for path in [root / "geotransforms.csv", *(root / "tileids").iterdir()]:
        own = path.read_text().split()
        path.write_text("\n".join(own + [f"{n}00{line}" for n in range(1, times) for line in own]) + "\n")
    for name, n in product(ids, range(1, times)):
        os.link(records / f"{name}.tfrecord.gz", records / f"{n}00{name}.tfrecord.gz")
    return times * len(ids)


def scaling(what: str, made: Workspace, tiles: int, rounds: int) -> None:
    """Tiles a second and CPU time by the number of workers; the stores are equal to the byte."""
    alone, stores = 0.0, set()
    for workers in sorted({1, 2, len(os.sched_getaffinity(0))}):
        before = ended_cpu()
        times = [prepared(made, workers) for _ in range(rounds)]
        theirs, (wall, own) = (ended_cpu() - before) / rounds, np.median(times, axis=0).tolist()
        stores.add(digest(made.season(season_of(made))))
        alone = alone or wall
        say(
            f"{what}: workers", workers=workers, tiles=tiles, tiles_per_second=tiles / wall, times_one=alone / wall,
            cpu_seconds_of_the_step_itself=own, cpu_seconds_of_the_workers=theirs,
        )  # fmt: skip
    say(f"{what}: stores that differ between numbers of workers", stores=len(stores) - 1)


def ended_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Memory:
    """The largest resident memory of this process and of each of its workers, looked at every 10 ms."""

    def __enter__(self) -> "Memory":
        self.own, self.workers, self.ended = 0, dict[int, int](), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self.ended.wait(0.01):
            self.own = max(self.own, me.memory_info().rss)
            for child in me.children():
                try:
                    if "spawn_main" in " ".join(child.cmdline()):
                        self.workers[child.pid] = max(self.workers.get(child.pid, 0), child.memory_info().rss)
                except psutil.Error:
                    continue


def memory(what: str, made: Workspace) -> None:
    """Peak memory of the workers."""
    before = psutil.Process().memory_info().rss
    with Memory() as seen:
        prepared(made, 2)
    largest = max(seen.workers.values(), default=0)
    adds = (seen.own - before) / MIB
    say(f"{what}: peak memory", a_worker_mib=largest / MIB, the_step_adds_mib=adds, wanted_mib=1000)


def main() -> None:
    """Run everything in a temporary directory."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tiles", 300), ("times", 6), ("patches", 24), ("rounds", 3)):
        asked.add_argument(f"--{name}", type=int, default=default)
    given = asked.parse_args()
    step.TILES_A_WORKER = 1  # so that few patches show what many workers do
    say("machine", cores=len(os.sched_getaffinity(0)), numpy=np.__version__)
    with tempfile.TemporaryDirectory() as place:
        for size, tiles in ((24, given.tiles), (48, given.tiles // 4)):
            what, simulated = f"MTLCC, {size} pixels, simulated", {"tiles": tiles, "size": size, "dates": MTLCC_DATES}
            made = workspace(Path(place, f"mtlcc-{size}"), "own-mtlcc", "mtlcc", **simulated)
            records = next(made.raw.rglob("data[0-9][0-9]"))
            unpack = {name: partial(gunzipped, records, module) for name, module in GUNZIP.items()}
            compare(what, made, tiles, unpack, given.rounds)
            memory(what, made)
            if size == 24:
                scaling(what, made, multiplied(made, given.times), given.rounds)
                memory(f"{what}, {given.times} times the tiles", made)
        what, simulated = "PASTIS, simulated", {"tiles": given.patches, "size": 128, "dates": PASTIS_DATES}
        made = workspace(Path(place, "pastis"), "own-pastis", "pastis", **simulated)
        load = {"np.load and compression": partial(loaded, next(made.raw.rglob("DATA_S2")))}
        compare(what, made, given.patches, load, given.rounds)
        scaling(what, made, given.patches, given.rounds)
        memory(what, made)


if __name__ == "__main__":
    main()
