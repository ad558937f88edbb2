"""No byte is fetched twice but the tail of an open range: after a broken line, a stop, a kill, a restarted machine."""

import io
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hostile import STEP, Fault, Server, Told, content, twice
from hypothesis import given
from hypothesis import strategies as st

from stcln.data.fetch import fetch, journal, listing, ranges
from stcln.data.fetch import line as lines
from stcln.data.fetch.line import Line
from stcln.data.fetch.part import Part
from stcln.data.fetch.ranges import LINES, download, place
from stcln.data.fetch.sources import Remote, open_source
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.workspace import Workspace

SIZE = 3_000_000
CHUNK = 1 << 16


def test_a_line_that_breaks_costs_no_byte_but_what_was_under_way(server: Server, tmp_path: Path) -> None:
    body, rng = content(SIZE, 1), random.Random(1)
    url = server.put("/a", body)
    server.fault = lambda *_: Fault(cut=rng.randrange(1, 60_000)) if rng.random() < 0.7 else None
    download([Remote("a", url)], tmp_path, Line())
    assert (tmp_path / "files/a").read_bytes() == body
    assert len(server.asked) > 60
    assert twice(server, "/a", SIZE) == 1  # the first byte, by which the file was found


def test_a_file_of_another_version_or_address_is_not_gone_on_from(server: Server, tmp_path: Path) -> None:
    body = content(SIZE, 7)
    url, remote = server.put("/a", body), server.put("/b", body)
    at = place(tmp_path, "a")
    for left in (
        journal.Journal(url, '"old"', SIZE, ((0, SIZE - 5),)),
        journal.Journal(url, server.files["/a"].headers["ETag"], SIZE + 1, ((0, SIZE - 5),)),
        journal.Journal(remote, server.files["/a"].headers["ETag"], SIZE, ((0, SIZE),), "0" * 32),
    ):
        at.part.parent.mkdir(parents=True, exist_ok=True)
        at.part.write_bytes(bytes(SIZE))
        journal.save(at.journal, left)
        download([Remote("a", url)], tmp_path, Line())
        assert at.whole.read_bytes() == body
        at.whole.unlink()


def test_a_journal_that_a_crash_left_unreadable_means_to_begin_anew(server: Server, tmp_path: Path) -> None:
    body = content(SIZE, 8)
    url, at = server.put("/a", body), place(tmp_path, "a")
    for left in (b"", bytes(100), b"{", b"[]", b'{"held": [[0]]}', b'{"held": [[0, 3000000]], "url": 1}'):
        at.journal.parent.mkdir(parents=True, exist_ok=True)
        at.journal.write_bytes(left)
        at.part.parent.mkdir(parents=True, exist_ok=True)
        at.part.write_bytes(bytes(SIZE))
        download([Remote("a", url)], tmp_path, Line())
        assert at.whole.read_bytes() == body
        at.whole.unlink()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30), st.integers(0, 80), st.integers(1, 90))
def test_spans_are_joined_and_what_is_missing_is_the_rest(new: list[tuple[int, int]], size: int, most: int) -> None:
    held: tuple[tuple[int, int], ...] = ()
    for begin, length in new:
        held = journal.joined(held, (begin, begin + length))
    here = {byte for begin, length in new for byte in range(begin, begin + length)}
    assert {byte for a, b in held for byte in range(a, b)} == here
    assert all(b < a for (_, b), (a, _) in pairwise(held))  # in order, and none touches the next
    inside = tuple((a, min(b, size)) for a, b in held if a < size)
    pieces = journal.missing(inside, size, most)
    assert [byte for a, b in pieces for byte in range(a, b)] == sorted(set(range(size)) - here)
    assert all(0 < b - a <= most for a, b in pieces)


def test_the_journal_speaks_of_no_byte_before_it_is_safe_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr("stcln.data.fetch.part.sync", lambda file: happened.append("synced"))
    monkeypatch.setattr(journal, "save", lambda path, of: happened.append(f"held {of.held}"))
    part = Part(tmp_path / "a", tmp_path / "journal", journal.Journal("u", "v", 10))
    part.write(5, b"12345")
    part.enter()
    part.close()
    assert happened == ["synced", "held ((5, 10),)"]


def test_what_is_whole_and_unchanged_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    old, new = content(SIZE, 9), content(SIZE, 90)
    remotes = [Remote("a", server.put("/a", old)), Remote("small", server.put("/small", b"small"), 5)]
    first = download(remotes, tmp_path, Line())
    server.sent.clear()
    assert download(remotes, tmp_path, Line()) == first
    assert sorted(server.sent) == [("/a", 0, 1), ("/small", 0, 1)]  # only asked whether they are still the same
    server.files["/a"].change(new)
    download(remotes, tmp_path, Line())
    assert (tmp_path / "files/a").read_bytes() == new


@pytest.mark.parametrize("size", [100, 90])
def test_a_fetch_that_goes_on_does_not_mix_small_files_of_two_versions(
    server: Server, tmp_path: Path, size: int
) -> None:
    remotes = [Remote(f"{n}", server.put(f"/{n}", content(100, n))) for n in range(6)]
    download(remotes[:3], tmp_path, Line())
    new = {f"{n}": content(size, n + 50) for n in range(6)}
    for name, body in new.items():
        server.files[f"/{name}"].change(body)
    download(remotes, tmp_path, Line())
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == new


@pytest.mark.parametrize("size", [100, 90])
def test_what_a_listing_calls_another_version_comes_anew(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A listing, a bucket's for one, tells every file's version, so that what stands costs no question."""
    bucket, asked = tmp_path / "bucket", list[str]()
    bucket.mkdir()
    for n in range(6):
        (bucket / f"{n}").write_bytes(content(100, n))
    dataset = make(bucket.as_uri()).study.dataset
    download(listing.remotes(dataset, Line())[:3], tmp_path, Line())
    monkeypatch.setattr(ranges, "open_source", lambda *of: asked.append(of[0].name) or open_source(*of))
    download(listing.remotes(dataset, Line())[:3], tmp_path, Line())
    assert not asked
    new = {f"{n}": content(size, n + 50) for n in range(6)}
    for name, body in new.items():
        (bucket / name).write_bytes(body)
    download(listing.remotes(dataset, Line()), tmp_path, Line())
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == new


def test_an_interrupt_keeps_every_byte(server: Server, tmp_path: Path) -> None:
    body, told = content(SIZE, 10), Told()
    url = server.put("/a", body)

    class Interrupted(Told):
        def progress(self, what: str, done: int, total: int, values: object = None) -> None:
            if done > SIZE // 3:
                raise KeyboardInterrupt

    server.pace = 0.002
    with pytest.raises(KeyboardInterrupt):
        download([Remote("a", url)], tmp_path, Line(Interrupted()))
    time.sleep(0.3)  # what the server still has under way
    before = server.bytes_sent("/a")
    held = journal.load(place(tmp_path, "a").journal)
    assert held and sum(b - a for a, b in held.held) > SIZE // 3
    download([Remote("a", url)], tmp_path, Line(told))
    assert (tmp_path / "files/a").read_bytes() == body
    assert twice(server, "/a", SIZE) <= before - sum(b - a for a, b in held.held) + 1


def command(workspace: Workspace) -> list[str]:
    """`python -m stcln fetch`, with small ranges and no waits."""
    setup = "from stcln.data.fetch import crew, line, part, ranges; crew.BEAT = line.FACTOR = 0.01; "
    setup += "ranges.SEGMENT = 1 << 16; part.EVERY = 0.02"
    words = ["stcln", "fetch", "--workspace", str(workspace.root)]
    return [sys.executable, "-c", f"import sys; {setup}; sys.argv = {words}; from stcln.cli import main; main()"]


def kill(workspace: Workspace, when: Callable[[], bool]) -> None:
    """Run a fetch and kill it at a moment."""
    process = subprocess.Popen(command(workspace), stderr=subprocess.DEVNULL)
    while process.poll() is None and not when():
        time.sleep(0.001)
    process.kill()
    process.wait()


def test_a_fetch_killed_at_any_moment_and_run_again_gives_the_same_bytes(server: Server, make) -> None:
    """Over a line that breaks; what is fetched twice is what was open and not yet in the journal."""
    rng, stream = random.Random(12), io.BytesIO()
    members = {f"{n % 7}/{n}": rng.randbytes(10_000) for n in range(400)}
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    size = len(stream.getvalue())
    workspace = make(server.put("/a.zip", stream.getvalue()))
    server.pace = 0.02
    server.fault = lambda *_: Fault(cut=rng.randrange(1, 300_000)) if rng.random() < 0.1 else None
    for _ in range(3):
        until = server.bytes_sent("/a.zip") + rng.randrange(500_000, 1_200_000)
        kill(workspace, lambda: server.bytes_sent("/a.zip") > until)  # noqa: B023
        assert not workspace.raw.exists()
    kill(workspace, (workspace.resume("fetch") / "unpacked").exists)
    done = subprocess.run(command(workspace), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (workspace.raw / "lineage.json").unlink()
    files = [path for path in workspace.raw.rglob("*") if path.is_file()]
    assert {path.relative_to(workspace.raw).as_posix(): path.read_bytes() for path in files} == members
    assert twice(server, "/a.zip", size) < 5 + 3 * LINES * 5 * STEP


def test_a_fetch_asked_to_stop_while_it_waits_for_the_server_stops_at_once(server: Server, make) -> None:
    workspace = make(server.put("/a.bin", b"a"))
    server.fault = lambda *_: Fault(status=503, after="3000")
    process = subprocess.Popen(command(workspace), stderr=subprocess.PIPE, text=True)
    while not server.asked:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 143
    assert told.splitlines()[-1] == "stcln: stopped by SIGTERM; run it again to go on."
    assert "HTTP 503" in told and "3000" in told


def test_the_whole_step_goes_on_where_it_was_refused(server: Server, make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LATER", 2)
    body = content(SIZE, 13)
    workspace = make(server.put("/a.bin", body))
    gone = threading.Event()
    server.fault = lambda *_: Fault(cut=-1) if gone.is_set() or server.bytes_sent("/a.bin") > SIZE // 2 else None
    with pytest.raises(BadInput, match="it goes on where it stopped"):
        fetch(workspace, Silent())
    assert not workspace.raw.exists()
    server.fault = lambda *_: None
    fetch(workspace, Silent())
    assert (workspace.raw / "a.bin").read_bytes() == body
    assert twice(server, "/a.bin", SIZE) == 2  # each run's first question
    assert not workspace.resume("fetch").exists()
