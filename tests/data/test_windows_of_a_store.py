"""Windows read chunk by chunk: what Zarr reads, only the chunks it takes, from a directory or from a server."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import zarr
from tiny_study import synthetic_tile, write_season
from upath import UPath

from stcln.data.store import SeasonStore, arrays, packed
from stcln.data.store.chunks import Local, Range, Sharded, joined, split
from stcln.data.store.remote import Remote, Ring
from stcln.errors import BadInput, NoAnswer

SIDE, DATES = 20, 11


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five tiles of 20 pixels and 11 dates in three shards; chunks of 4 dates and at most 7 pixels."""
    place = tmp_path_factory.mktemp("store") / "2016.zarr"
    with pytest.MonkeyPatch.context() as patch:
        for module in (arrays, packed):
            patch.setattr(module, "CHUNK_DATES", 4)
        for limit in ("CHUNK_SIDE", "WHOLE"):
            patch.setattr(arrays, limit, 7)
        patch.setattr(arrays, "SHARD_BYTES", 2 * 64 * 4 * SIDE * SIDE * 2)
        write_season(place, "2016", [synthetic_tile(n, "2016", SIDE, DATES) for n in range(5)])
        yield place


@pytest.fixture
def address(season: Path) -> Iterator[UPath]:
    """The same store on a file system in memory."""
    system, root = fsspec.filesystem("memory"), f"/{uuid4().hex}/2016.zarr"
    system.put(str(season), root, recursive=True)
    yield UPath(f"memory:/{root}")
    system.rm(root, recursive=True)


class Counted:
    """Files that remember what was asked of them."""

    def __init__(self, files: Local) -> None:
        self.files, self.asked = files, list[Range]()

    def sizes(self) -> dict[str, int]:
        return self.files.sizes()

    def read(self, ranges: Sequence[Range]) -> list[np.ndarray]:
        self.asked += ranges
        return self.files.read(ranges)


def windows(count: int) -> Iterator[tuple[int, np.ndarray, tuple[int, int, int]]]:
    """Seeded tiles, dates and windows; some windows leave the tile."""
    rng = np.random.default_rng(4)
    for _ in range(count):
        dates = np.sort(rng.choice(DATES, rng.integers(1, DATES + 1), replace=False))
        row, column = rng.integers(0, SIDE, 2).tolist()
        yield int(rng.integers(5)), dates, (row, column, int(rng.integers(1, SIDE + 3)))


def test_any_window_at_any_dates_is_what_zarr_reads(season: Path) -> None:
    store, group = SeasonStore.open(season), zarr.open_group(season, mode="r")
    for tile, dates, (row, column, side) in windows(60):
        y, x = slice(row, row + side), slice(column, column + side)
        reflectance, valid, labels = store.read(tile, dates, (row, column, side))
        assert np.array_equal(reflectance, group["reflectance"][tile][dates][:, :, y, x])
        assert np.array_equal(valid, group["valid"][tile][dates][:, y, x])
        assert np.array_equal(labels, group["label"][tile, y, x])


def test_only_the_chunks_of_a_window_are_read_and_the_index_once(season: Path) -> None:
    files = Counted(Local(season))
    array = Sharded(files, files.sizes(), zarr.open_group(season, mode="r")["reflectance"])
    array.read(0, np.array([4, 6]), (8, 0, 5))
    assert len(files.asked) == 2, "the index and one chunk: second row, first column, second step in time"
    array.read(1, np.arange(DATES), (6, 6, 2))
    assert len(files.asked) == 2 + 3 * 4, "three steps in time of the four chunks that meet there; the index is known"


def test_what_lies_side_by_side_is_one_request() -> None:
    ranges = [("a", 0, 3), ("a", 3, 5), ("a", 6, 8), ("b", 8, 9)]
    assert joined(ranges) == [ranges[:2], ranges[2:3], ranges[3:]]
    assert [part.tobytes() for part in split(ranges[:2], b"abcde")] == [b"abc", b"de"]


def test_a_file_cut_off_is_named(season: Path, tmp_path: Path) -> None:
    torn = tmp_path / "2016.zarr"
    fsspec.filesystem("file").put(str(season), str(torn), recursive=True)
    store, shard = SeasonStore.open(torn), torn / "reflectance/c/0/0/0/0/0"
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(BadInput, match=r"2016\.zarr: .*tile t00 cannot be read"):
        store.read(0)


def test_a_store_on_a_server_gives_the_same_windows(season: Path, address: UPath) -> None:
    here, there = SeasonStore.open(season), SeasonStore.open(str(address))
    assert there.ids == here.ids and there.bands == here.bands and np.array_equal(there.mean, here.mean)
    for tile, dates, window in windows(20):
        for mine, theirs in zip(here.read(tile, dates, window), there.read(tile, dates, window), strict=True):
            assert np.array_equal(mine, theirs)


def test_what_was_read_from_a_server_is_not_asked_for_again(address: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = SeasonStore.open(address), list[Range]()
    honest = Remote._ask
    monkeypatch.setattr(Remote, "_ask", lambda self, ranges: (asked.extend(ranges), honest(self, ranges))[1])
    first = store.read(3)
    assert asked
    asked.clear()
    assert all(np.array_equal(a, b) for a, b in zip(first, store.read(3), strict=True))
    assert asked == []


def test_the_cache_stays_within_its_bound_and_what_is_read_is_the_same(season: Path, address: UPath) -> None:
    here, there = SeasonStore.open(season), SeasonStore.open(address, cache=3000)
    with ThreadPoolExecutor(4) as threads:
        jobs = list(windows(80))
        for job, found in zip(jobs, threads.map(lambda job: there.read(*job), jobs), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(here.read(*job), found, strict=True))
    ring = there._reflectance.files._ring
    assert 0 < os.fstat(ring._file.fileno()).st_size <= 3000


def test_a_ring_holds_the_newest_bytes_and_never_wrong_ones() -> None:
    rng, ring, size = np.random.default_rng(2), Ring(1000), 1000
    known: dict[Range, np.ndarray] = {}
    for number in range(400):
        key = ("shard", number * 2000, number * 2000 + int(rng.integers(1, 300)))
        known[key] = rng.integers(0, 256, key[2] - key[1], np.uint8)
        ring.put(key, known[key])
        assert np.array_equal(ring.get(key), known[key])
        for other, value in known.items():
            assert (found := ring.get(other)) is None or np.array_equal(found, value)
        held = sum(other[2] - other[1] for other in known if ring.get(other) is not None)
        assert held <= size and (number < 10 or held >= size - 2 * 300)
    ring.put(too_large := ("shard", 0, 1001), np.zeros(1001, np.uint8))
    assert ring.get(too_large) is None


def test_a_full_ring_looks_at_the_oldest_bytes_alone_whatever_it_holds() -> None:
    class Counted(OrderedDict[Range, int]):
        looked = 0

        def __iter__(self) -> Iterator[Range]:
            for key in super().__iter__():
                self.looked += 1
                yield key

        def items(self) -> Any:
            return [(key, self[key]) for key in self]

    ring = Ring(2000)
    ring._places = Counted()
    for number in range(4000):
        before = ring._places.looked
        ring.put(("shard", number, number + 1), np.zeros(1, np.uint8))
        assert ring._places.looked - before <= 4


def test_a_ring_takes_half_of_what_is_free_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=6, f_frsize=100))
    assert Ring(1000).size == 300 and Ring(200).size == 200


def test_a_disk_that_fills_up_lowers_a_rings_bound_and_what_it_gives_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes 700 bytes; the write that comes upon its end is cut short, the next one refused."""
    pwrite, most = os.pwrite, 700

    def full(file: int, value: memoryview, at: int) -> int:
        if at >= most:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, value[: most - at], at)

    monkeypatch.setattr(os, "pwrite", full)
    ring, known = Ring(1000), {}
    for number in range(60):
        key = ("shard", number * 100, number * 100 + 30 + number)
        known[key] = np.full(30 + number, number, np.uint8)
        ring.put(key, known[key])
        for other, value in known.items():
            assert (found := ring.get(other)) is None or np.array_equal(found, value)
    assert ring.get(key) is not None and ring.size <= most and os.fstat(ring._file.fileno()).st_size <= ring.size


def test_a_store_on_a_server_that_is_gone_says_so(address: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SeasonStore.open(address)

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(type(address.fs), "cat_ranges", broken)
    with pytest.raises(NoAnswer, match=rf"{address.name}: the server does not answer, connection reset by peer; "):
        store.read(0)
    with pytest.raises(BadInput, match="the season store is missing"):
        SeasonStore.open(address.with_name("2017.zarr"))


def test_threads_share_a_store(season: Path) -> None:
    store, alone = SeasonStore.open(season), list(windows(60))
    expected = [store.read(*one) for one in alone]
    start = threading.Barrier(4)

    def read(_: int) -> list[tuple[np.ndarray, ...]]:
        start.wait(30)
        return [store.read(*one) for one in alone]

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(read, range(4)):
            assert all(
                np.array_equal(a, b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True)
            )
