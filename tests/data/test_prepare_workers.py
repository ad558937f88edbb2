"""Prepare on many cores: the same bytes whatever the number of workers, breaks and kills, and a clear end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from stcln.data import archive as archived
from stcln.data import prepare as step
from stcln.data.prepare import prepare
from stcln.data.prepare.count import Count
from stcln.data.prepare.staging import Staging
from stcln.data.prepare.tiles import READERS
from stcln.data.readers.mtlcc import Mtlcc
from stcln.data.simulate import archive
from stcln.data.store.packed import Packed
from stcln.data.tile import Tile
from stcln.errors import BadInput, NoAnswer
from stcln.events import Silent
from stcln.storage import digest, read_json, write_json
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[2] / "studies"
TILES = 40  # enough for two workers
Make = Callable[..., Workspace]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated MTLCC archive."""
    target = tmp_path_factory.mktemp("archive") / "mtlcc"
    archive(target, "mtlcc", ["2018"], TILES, 12, 7, Silent())
    return target


@pytest.fixture
def make(simulated: Path, tmp_path: Path) -> Make:
    """A function: a workspace over the archive, or a writable copy of it, with fields of the study changed."""

    def workspace(copied: bool = False, threads: int = 1, **dataset: object) -> Workspace:
        params = yaml.safe_load((STUDIES / "own-mtlcc.yaml").read_text())
        params["dataset"] |= {"root": "."} | dataset
        params["compute"] = {"threads": threads}
        root = tmp_path / "work"
        (root / "data").mkdir(parents=True, exist_ok=True)
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        if copied and not (root / "data/raw").exists():
            shutil.copytree(simulated, root / "data/raw")
        elif not copied:
            (root / "data/raw").symlink_to(simulated)
        return Workspace(root)

    return workspace


class Reads:
    """The tiles that were read, in order; after `most` of them the step is killed, as far as it can tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        self.most = TILES * 10
        reads = self

        class Told(Mtlcc):
            def read(self, tile: str) -> Tile:
                if len(reads.ids) == reads.most:
                    raise KeyboardInterrupt
                reads.ids.append(tile)
                return super().read(tile)

        monkeypatch.setitem(READERS, "mtlcc", Told)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def broken_after(place: Workspace, reads: Reads, tiles: int) -> None:
    reads.most = tiles
    with pytest.raises(KeyboardInterrupt):
        prepare(place, "2018", Silent())
    assert len(reads.ids) == tiles
    reads.ids, reads.most = [], TILES * 10


def left(place: Workspace) -> list[Path]:
    return list((place.root / ".stcln/resume").rglob("*"))


def start(place: Workspace, largest: int = -1) -> subprocess.Popen[str]:
    """The step in a process of its own, which may write files of so many bytes."""
    command = [sys.executable, "-m", "stcln", "prepare", "--season", "2018", "-w", str(place.root)]
    if largest > 0:
        command = ["prlimit", f"--fsize={largest}", *command]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def workers(process: int) -> Iterator[psutil.Process]:
    for child in psutil.Process(process).children():
        if "spawn_main" in " ".join(child.cmdline()):
            yield child


def started(process: subprocess.Popen[str], place: Workspace, tiles: int) -> list[psutil.Process]:
    """The workers, once so many tiles are put aside."""
    while process.poll() is None:
        ready = list(place.resume("prepare@2018").rglob("*.tile"))
        if len(ready) >= tiles:
            return list(workers(process.pid))
        time.sleep(0.002)
    raise AssertionError(process.communicate()[0])


def test_the_number_of_workers_does_not_change_a_byte(make: Make) -> None:
    place = make()
    prepare(place, "2018", Silent())
    alone = digest(place.season("2018"))
    prepare(make(threads=2, copied=True), "2018", Silent())
    assert digest(place.season("2018")) == alone and left(place) == []


def test_a_broken_run_goes_on_with_the_tiles_that_lack(make: Make, reads: Reads) -> None:
    place = make()
    prepare(place, "2018", Silent())
    unbroken = digest(place.season("2018"))
    reads.ids.clear()
    broken_after(place, reads, 9)
    broken_after(place, reads, 20)
    prepare(place, "2018", Silent())
    assert len(reads.ids) == TILES - 29
    assert digest(place.season("2018")) == unbroken and left(place) == []


def test_ready_tiles_of_another_archive_are_made_again(make: Make, reads: Reads) -> None:
    place = make(copied=True)
    broken_after(place, reads, 9)
    record = next((place.raw / "data18").iterdir())
    os.utime(record, ns=(1, 1))
    broken_after(place, reads, 3)
    prepare(place, "2018", Silent())
    assert len(reads.ids) == TILES - 3 and left(place) == []


def test_ready_tiles_serve_where_the_workspace_has_moved(make: Make, reads: Reads, tmp_path: Path) -> None:
    broken_after(make(copied=True), reads, 9)
    (tmp_path / "work").rename(tmp_path / "moved")
    prepare(Workspace(tmp_path / "moved"), "2018", Silent())
    assert len(reads.ids) == TILES - 9


def test_ready_tiles_serve_as_long_as_the_same_content_is_linked(make: Make, reads: Reads, tmp_path: Path) -> None:
    """A list fetched again is another file; only what it says of the season counts."""
    place = make(copied=True)
    source = (place.raw).rename(tmp_path / "bucket")

    def link() -> None:
        shutil.rmtree(place.raw, ignore_errors=True)
        place.raw.mkdir()
        document = archived.link(place.study.dataset.model_copy(update={"source": f"local://{source}", "linked": True}))
        write_json(place.raw / archived.LINKED, document)

    link()
    broken_after(place, reads, 9)
    (source / "data19").mkdir()
    (source / "data19/of-another-season").touch()
    link()
    broken_after(place, reads, 5)
    os.utime(next((source / "data18").iterdir()), ns=(1, 1))
    link()
    prepare(place, "2018", Silent())
    assert len(reads.ids) == TILES


def test_a_linked_archive_that_changes_while_it_is_read_leaves_no_store(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = make(copied=True)
    source = place.raw.rename(tmp_path / "bucket")
    place.raw.mkdir()
    dataset = place.study.dataset.model_copy(update={"source": f"local://{source}", "linked": True})
    write_json(place.raw / archived.LINKED, archived.link(dataset))

    class Changed(Mtlcc):
        def read(self, tile: str) -> Tile:
            found = super().read(tile)
            if tile == self.ids[20]:
                os.utime(source / f"data18/{tile}.tfrecord.gz", ns=(1, 1))
            return found

    monkeypatch.setitem(READERS, "mtlcc", Changed)
    with pytest.raises(BadInput, match="1 files are not those that were linked: data18/"):
        prepare(place, "2018", Silent())
    assert not place.seasons.exists()


def test_ready_tiles_of_other_parameters_are_made_again(make: Make, reads: Reads) -> None:
    broken_after(make(copied=True), reads, 9)
    prepare(make(copied=True, bands=["B04", "B08"]), "2018", Silent())
    assert len(reads.ids) == TILES


def test_ready_tiles_serve_when_only_a_limit_is_raised(make: Make, reads: Reads) -> None:
    place = make(copied=True, max_rejected=0)
    last = max((place.raw / "data18").iterdir(), key=lambda path: (len(path.name), path.name))
    last.write_bytes(last.read_bytes()[:500])
    with pytest.raises(BadInput, match="1 of 40 tiles are broken"):
        prepare(place, "2018", Silent())
    reads.ids.clear()
    assert prepare(make(copied=True, max_rejected=0.1), "2018", Silent())["rejected_tiles"] == 1
    assert len(reads.ids) == 1


def test_a_torn_file_of_a_ready_tile_is_made_again(make: Make, reads: Reads) -> None:
    place = make()
    broken_after(place, reads, 9)
    one, two, *others = sorted(place.resume("prepare@2018").rglob("*.tile"))[:4]
    one.write_bytes(one.read_bytes()[:-9])
    for number, other in enumerate(others):
        other.write_bytes(bytes(4 * number))  # as a power cut leaves them
    torn = bytearray(two.read_bytes())
    torn[len(torn) // 2] ^= 1
    two.write_bytes(torn)
    prepare(place, "2018", Silent())
    assert len(reads.ids) == TILES - 5


def test_a_ready_tile_that_is_damaged_meanwhile_is_told_and_made_again(
    make: Make, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read = make(), Staging.read

    def damaged(self: Staging, number: int) -> tuple[Packed, Count]:
        if number == 5:
            next(self.folder.rglob("000005.tile")).write_bytes(b"")
        return read(self, number)

    monkeypatch.setattr(Staging, "read", damaged)
    with pytest.raises(BadInput, match=r"000005.tile: a tile put aside is damaged; run the step again"):
        prepare(place, "2018", Silent())
    monkeypatch.setattr(Staging, "read", read)
    reads.ids.clear()
    prepare(place, "2018", Silent())
    assert len(reads.ids) == 1


def test_a_server_that_is_gone_is_no_broken_tile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Mtlcc):
        def read(self, tile: str) -> Tile:
            if tile == self.ids[5]:
                raise NoAnswer("s3://bucket", "does not answer", "try again")
            return super().read(tile)

    monkeypatch.setitem(READERS, "mtlcc", Gone)
    place = make(max_rejected=1)
    with pytest.raises(NoAnswer, match="does not answer"):
        prepare(place, "2018", Silent())
    assert not place.seasons.exists()


def test_absent_tiles_beyond_their_share_end_the_step_before_it_begins(make: Make, reads: Reads) -> None:
    place = make(copied=True, max_absent=0.04)
    for record in sorted((place.raw / "data18").iterdir())[:2]:
        record.unlink()
    words = r"2 of 40 tiles of season 2018 are absent: 2 listed in tileids, no record on disk; .*max_absent \(0.04\)"
    with pytest.raises(BadInput, match=words):
        prepare(place, "2018", Silent())
    assert reads.ids == []
    prepare(make(copied=True, max_absent=0.05), "2018", Silent())


def test_records_in_no_list_are_told_and_count_neither_as_listed_nor_as_absent(make: Make) -> None:
    place = make(copied=True, max_absent=0)
    for number in range(TILES):
        (place.raw / f"data18/9{number:05}.tfrecord.gz").touch()
    assert prepare(place, "2018", Silent())["absent_ids"] == 0
    found = read_json(place.season("2018") / "validation.json")
    assert found["listed_ids"] == TILES and len(found["unlisted"]["record on disk, in no list"]) == TILES


def test_too_many_broken_tiles_end_the_step_at_the_first_too_many(make: Make, reads: Reads) -> None:
    place = make(copied=True, max_rejected=0.05)
    for record in sorted((place.raw / "data18").iterdir())[:20]:
        record.write_bytes(record.read_bytes()[:500])
    with pytest.raises(BadInput, match="3 of 40 tiles are broken"):
        prepare(place, "2018", Silent())
    assert len(reads.ids) < 30


def test_killed_at_random_moments_with_workers_it_ends_in_the_same_bytes(make: Make) -> None:
    place = make(threads=2)
    prepare(place, "2018", Silent())
    unbroken = digest(place.season("2018"))
    shutil.rmtree(place.season("2018"))
    moments = random.Random("kill -9")
    for tiles in (moments.randrange(2, 20), moments.randrange(20, TILES)):
        process = start(place)
        children = started(process, place, tiles)
        process.kill()
        process.communicate()
        psutil.wait_procs(children, timeout=20)
        assert not [child for child in children if child.is_running()], "workers outlive the step"
        assert not place.season("2018").exists()
    assert start(place).wait() == 0
    assert digest(place.season("2018")) == unbroken and left(place) == []
    assert [path.name for path in place.seasons.iterdir()] == ["2018.zarr"]


@pytest.mark.parametrize("to", ["the step", "the whole group"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_workers_too_without_a_word_of_theirs(
    make: Make, number: signal.Signals, status: int, to: str
) -> None:
    place = make(threads=2)
    process = start(place)
    children = started(process, place, 3)
    assert len(children) == 2
    (os.killpg if to == "the whole group" else os.kill)(process.pid, number)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == status
    assert told.splitlines()[-1] == f"stcln: stopped by {number.name}; run it again to go on."
    assert "Traceback" not in told and "Warning" not in told
    assert not [child for child in children if child.is_running()]
    assert not place.season("2018").exists() and not list(place.seasons.glob(".*"))


def test_a_worker_that_is_killed_is_told_in_one_sentence_and_the_next_run_goes_on(make: Make) -> None:
    place = make(threads=2)
    process = start(place)
    children = started(process, place, 3)
    children[0].kill()
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert told.splitlines()[-1].startswith("stcln: a worker process: it was killed, as the system does when memory")
    assert "Traceback" not in told
    ready = len(list(place.resume("prepare@2018").rglob("*.tile")))
    assert ready >= 3
    again = start(place)
    assert f"{ready} tiles are ready from a run that was broken" in again.communicate()[0] and again.returncode == 0


def test_the_archive_is_opened_once_where_the_step_works_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    mtlcc = READERS["mtlcc"]
    monkeypatch.setitem(
        READERS, "mtlcc", lambda root, dataset, season: opened.append(season) or mtlcc(root, dataset, season)
    )
    prepare(make(), "2018", Silent())
    assert opened == ["2018"]


def test_few_tiles_do_not_start_processes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    run = step.pool.run
    monkeypatch.setattr(step.pool, "run", lambda work, tasks, many: asked.append(many) or run(work, tasks, many))
    prepare(make(threads=64), "2018", Silent())
    assert asked == [2]


def test_a_disk_that_refuses_a_worker_is_told_in_one_sentence(make: Make) -> None:
    place = make(threads=2)
    largest = 10_000  # less than a tile
    process = start(place, largest)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "Traceback" not in told
    assert told.splitlines()[-1] == "stcln: the disk: File too large; name a place that takes larger files."
    assert not place.season("2018").exists()
    prepare(place, "2018", Silent())
    assert left(place) == []
