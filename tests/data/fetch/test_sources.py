"""A source beyond the web, and a source as a file."""

import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hostile import Fault, Server, content

from stcln.data.fetch import elsewhere
from stcln.data.fetch import line as lines
from stcln.data.fetch.line import Line
from stcln.data.fetch.ranges import download
from stcln.data.fetch.sources import RangeFile, Remote, open_source
from stcln.errors import BadInput

ADDRESS = "memory://flaky"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system in small pieces; its `before` is called before each answer."""
    found = fsspec.filesystem("memory")
    found.before = lambda: None
    info, cat_file = MemoryFileSystem.info, MemoryFileSystem.cat_file
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, *a, **k: self.before() or info(self, *a, **k))
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda self, *a, **k: self.before() or cat_file(self, *a, **k))
    monkeypatch.setattr(elsewhere, "PIECE", 20_000)
    yield found
    del found.before


@pytest.mark.parametrize("often", [0.05, 0.3, 0.8])
def test_a_file_system_over_a_bad_line_gives_the_right_bytes_or_one_sentence(
    impatient: None, system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: float
) -> None:
    monkeypatch.setattr(lines, "FIRST", 3)
    monkeypatch.setattr(lines, "LATER", 3)
    ended = []
    for seed in range(40):
        rng, body = random.Random(seed), content((0, 1, 20_000, 300_000)[seed % 4], seed)

        def trouble(rng: random.Random = rng) -> None:
            if rng.random() < often:
                raise rng.choice((OSError, ConnectionResetError, TimeoutError, EOFError))("the line broke")

        system.pipe("/flaky", body)
        system.before, directory = trouble, tmp_path / str(seed)
        try:
            found = download([Remote("a", ADDRESS)], directory, Line())["a"]
        except BadInput as refused:
            assert str(refused).startswith(f"{ADDRESS}: it was tried again and again and brought nothing, at last: ")
            ended.append(False)
        else:
            assert (directory / "files/a").read_bytes() == body
            assert found.md5 == hashlib.md5(body).hexdigest()
            ended.append(True)
        system.before = lambda: None
    assert any(ended)


def test_a_file_beyond_the_web_that_changes_on_the_way_is_begun_anew(
    impatient: None, system: Any, tmp_path: Path
) -> None:
    old, new, asked = content(300_000, 1), content(300_000, 2), count()
    system.pipe("/flaky", old)
    system.before = lambda: system.pipe("/flaky", new) if next(asked) == 6 else None
    download([Remote("a", ADDRESS)], tmp_path, Line())
    assert (tmp_path / "files/a").read_bytes() == new


@pytest.fixture(params=["web", "elsewhere"])
def address(request: pytest.FixtureRequest, server: Server) -> str:
    """The same 200,000 bytes on the web and in a file system."""
    body = content(200_000, 1)
    if request.param == "web":
        return server.put("/a", body)
    fsspec.filesystem("memory").pipe("/ranges", body)
    return "memory://ranges"


def test_a_source_reads_like_a_file(address: str) -> None:
    body, rng = content(200_000, 1), random.Random(2)
    remote, local = RangeFile(open_source(Remote("a", address)), address), io.BytesIO(body)
    assert remote.readable() and remote.seekable() and not remote.writable()
    for _ in range(60):
        whence = rng.choice((io.SEEK_SET, io.SEEK_END))
        at = rng.randrange(0, 210_000) if whence == io.SEEK_SET else -rng.randrange(0, 200_000)
        assert remote.seek(at, whence) == local.seek(at, whence)
        count = rng.choice((0, 1, 5_000, 100_000))
        assert remote.read(count) == local.read(count)
        assert remote.seek(1, io.SEEK_CUR) == local.seek(1, io.SEEK_CUR) == remote.tell()
    assert remote.seek(150_000) == 150_000 and remote.read() == body[150_000:]
    with pytest.raises(ValueError, match="before the file"):
        remote.seek(-1)


def test_a_zip_is_read_at_its_source_over_a_line_that_breaks(server: Server) -> None:
    stream, rng = io.BytesIO(), random.Random(3)
    with zipfile.ZipFile(stream, "w") as archive:
        for n in range(50):
            archive.writestr(f"{n}", content(10_000, n))
    url = server.put("/a.zip", stream.getvalue())
    server.fault = lambda *_: Fault(cut=rng.randrange(1, 9_000)) if rng.random() < 0.5 else None
    with zipfile.ZipFile(io.BufferedReader(RangeFile(open_source(Remote("a", url)), url))) as archive:
        assert archive.read("7") == content(10_000, 7)
    assert server.bytes_sent("/a.zip") < len(stream.getvalue()) // 2


def test_a_server_that_hands_out_no_ranges_cannot_be_read_like_a_file(server: Server) -> None:
    url = server.put("/a", b"a", ranges=False)
    with pytest.raises(BadInput, match="no parts of files; fetch the whole"):
        RangeFile(open_source(Remote("a", url)), url)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("none"), "not there"),
        (PermissionError("no"), "access denied"),
        (type("NoCredentialsError", (Exception,), {})("no keys"), "no keys"),
        (ValueError("senseless"), "ValueError: senseless"),
    ],
)
def test_what_no_other_try_would_mend_is_refused_at_once(
    impatient: None, system: Any, error: Exception, words: str
) -> None:
    tries = []

    def refuse() -> None:
        tries.append(1)
        raise error

    system.before = refuse
    with pytest.raises(BadInput, match=words):
        open_source(Remote("a", ADDRESS))
    assert len(tries) == 1
