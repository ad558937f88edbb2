"""How files come: ranges at once, waits and tries, versions, small files, very large ones."""

import hashlib
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hostile import Fault, File, Server, Told, content
from urllib3 import HTTPResponse

from stcln.data.fetch import journal, ranges
from stcln.data.fetch import line as lines
from stcln.data.fetch.line import Line
from stcln.data.fetch.part import Part
from stcln.data.fetch.ranges import LINES, download, place
from stcln.data.fetch.sources import Remote
from stcln.errors import BadInput

SIZE = 3_000_000
CHUNK = 1 << 16


def test_several_ranges_are_open_at_once_and_requests_are_few(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", content(SIZE, 2))
    server.pace = 0.002
    download([Remote("a", url)], tmp_path, Line())
    order = [start for _, start, _ in server.sent]
    assert sum(later < earlier for earlier, later in pairwise(order)) > LINES  # they interleave
    assert len(server.asked) == 1 + -(-SIZE // CHUNK)


def test_a_server_without_ranges_gives_one_stream(server: Server, tmp_path: Path) -> None:
    body = content(SIZE, 3)
    url = server.put("/a", body, ranges=False)
    faults = iter([None, Fault(cut=SIZE // 2), None])
    server.fault = lambda *_: next(faults)
    download([Remote("a", url)], tmp_path, Line())
    assert (tmp_path / "files/a").read_bytes() == body
    assert len(server.asked) == 3


def test_a_file_that_changes_on_the_way_is_begun_anew(server: Server, tmp_path: Path) -> None:
    old, new = content(SIZE, 4), content(SIZE, 5)
    url = server.put("/a", old)
    faults = iter([None, None, None, None, None, None, Fault(change=lambda: server.files["/a"].change(new))])
    server.fault = lambda *_: next(faults, None)
    told = Told()
    download([Remote("a", url)], tmp_path, Line(told))
    assert (tmp_path / "files/a").read_bytes() == new
    assert [message for message, _ in told.notes] == ["a is begun anew"]


def test_a_file_that_keeps_changing_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", content(SIZE, 6))
    file = server.files["/a"]
    server.fault = lambda _, start: Fault(change=lambda: file.change(content(SIZE, file.number))) if start else None
    with pytest.raises(BadInput, match="changed 3 times while it was read"):
        download([Remote("a", url)], tmp_path, Line())
    assert not (tmp_path / "files/a").exists()


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_left_alone_as_long_as_it_asks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: waits.append(seconds or 0) and False)
    server.put("/a", b"a")
    in_an_hour = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
    faults = iter([Fault(status=status, after="120"), Fault(status=status, after=in_an_hour), Fault(status=status)])
    server.fault = lambda *_: next(faults, None)
    monkeypatch.setattr(lines, "FACTOR", 0.5)
    told = Told()
    download([Remote("a", f"{server.url}/a", 1)], tmp_path, Line(told))
    asked = [wait for wait in waits if wait > 0.2]
    assert asked[0] == 120 and 3590 < asked[1] <= 3600 and asked[2] == 2.0
    assert [values["why"] for _, values in told.notes] == [f"HTTP {status}"] * 3


def test_a_server_that_asks_for_ages_is_asked_again_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python refuses a wait of 1e11 seconds, which older urllib3 hands on."""
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: waits.append(seconds or 0) and False)
    monkeypatch.setattr(lines.Patience, "get_retry_after", lambda *_: 1e11)
    patience = Line().patience("http://a").increment("GET", "http://a", response=HTTPResponse(status=503))
    patience.sleep(HTTPResponse(status=503))
    assert waits == [86_400]


def test_tries_without_a_byte_are_counted_and_a_byte_begins_the_count_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LATER", 3)
    url = server.put("/a", content(100, 1))
    count = iter(range(1000))
    server.fault = lambda _, start: [Fault(cut=1), Fault(status=503), Fault(cut=-1)][next(count) % 3]
    with monkeypatch.context() as patch:
        patch.setattr(lines, "FIRST", 3)
        download([Remote("a", url)], tmp_path, Line())
    server.put("/b", content(100, 1))
    server.fault = lambda *_: Fault(status=503) if len(server.asked) > before + 1 else None
    before = len(server.asked)
    with pytest.raises(BadInput, match=r"brought nothing, at last: .*503"):
        download([Remote("b", f"{server.url}/b")], tmp_path, Line())
    assert len(server.asked) - before == 1 + 1 + 3


def test_a_server_that_serves_few_at_once_is_not_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the four lines are sent away again and again while the others bring bytes."""
    monkeypatch.setattr(lines, "LATER", 4)
    monkeypatch.setattr(lines, "FACTOR", 0.005)
    monkeypatch.setattr(ranges, "SEGMENT", SIZE // 4)
    body = content(SIZE, 14)
    url = server.put("/a", body)
    server.pace, server.most = 0.01, 2
    download([Remote("a", url)], tmp_path, Line())
    assert (tmp_path / "files/a").read_bytes() == body
    assert len(server.asked) > 20


def test_of_many_small_files_several_come_at_once(server: Server, tmp_path: Path) -> None:
    bodies = {f"{n}/x": content(n, n) for n in range(60)}
    remotes = [Remote(name, server.put(f"/{name}", body), len(body)) for name, body in bodies.items()]
    open_now, most, lock = 0, 0, threading.Lock()

    def count(*_: object) -> None:
        nonlocal open_now, most
        with lock:
            open_now, most = open_now + 1, max(most, open_now + 1)
        time.sleep(0.005)
        with lock:
            open_now -= 1

    server.fault = count
    found = download(remotes, tmp_path, Line())
    assert {name: (tmp_path / "files" / name).read_bytes() for name in bodies} == bodies
    assert {name: held.md5 for name, held in found.items()} == {
        name: hashlib.md5(body).hexdigest() for name, body in bodies.items()
    }
    assert most == LINES


def test_progress_tells_rate_and_time_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcln.data.fetch.progress.EVERY", 0.0)
    url, told = server.put("/a", content(SIZE, 11)), Told()
    server.pace = 0.002
    download([Remote("a", url)], tmp_path, Line(told))
    done = [done for done, _, _ in told.steps]
    assert done == sorted(done) and told.steps[-1] == (SIZE, SIZE, {})
    rated = [values for _, _, values in told.steps if values]
    assert rated and all(values["MB/s"] > 0 and re.fullmatch(r"\d+ s", values["left"]) for values in rated)


class Vast:
    """More than 4 GiB that are made up as they are asked for: every 8 bytes say where they are."""

    def __len__(self) -> int:
        return (1 << 32) + 3_000_001

    def __getitem__(self, at: slice) -> bytes:
        first, last = at.start // 8, -(-at.stop // 8)
        numbers = b"".join(n.to_bytes(8, "big") for n in range(first, last))
        return numbers[at.start - 8 * first :][: at.stop - at.start]


def test_arithmetic_holds_beyond_4_gib(server: Server, tmp_path: Path) -> None:
    """All but the bytes around 4 GiB and the tail are in hand; the file is sparse."""
    vast = Vast()
    server.files["/vast"] = File(vast)
    url, at, edge = f"{server.url}/vast", place(tmp_path, "vast"), 1 << 32
    held = ((0, edge - 500_000), (edge + 500_000, edge + 2_000_000))
    at.part.parent.mkdir(parents=True)
    at.part.touch()
    journal.save(at.journal, journal.Journal(url, server.files["/vast"].headers["ETag"], len(vast), held))
    Part.watch, watch = lambda self: False, Part.watch  # the zeros in between are not hashed
    Part._hash, hash_on = lambda self, most: False, Part._hash
    try:
        download([Remote("vast", url)], tmp_path, Line())
    finally:
        Part.watch, Part._hash = watch, hash_on
    assert at.whole.stat().st_size == len(vast)
    assert at.whole.stat().st_blocks * 512 < 10_000_000
    with at.whole.open("rb") as file:
        for begin, end in ((edge - 500_000, edge + 500_000), (edge + 2_000_000, len(vast))):
            file.seek(begin)
            assert file.read(end - begin) == vast[begin:end]
    assert server.bytes_sent("/vast") == 1 + 1_000_000 + 1_000_001
