"""Fetching, against a server on the loopback that behaves as badly as real ones."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from stcln import storage
from stcln.data import fetch as fetching
from stcln.data.fetch import fetch
from stcln.data.fetch import ranges as downloads
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[2] / "studies"


class Server(ThreadingHTTPServer):
    """Serves `files`; `breaks` answers are cut short, `busy` ones are 503, `ranges`: it knows ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks = self.busy = 0
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, body = self.server, self.server.files.get(self.path)
        server.asked.append(self.headers.get("Range"))
        if server.busy:
            server.busy -= 1
            return self.reply(503, b"", {"Retry-After": "0"})
        if body is None:
            return self.reply(404, b"", {})
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        wanted = self.headers.get("Range")
        if wanted and server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(body)}", "ETag": tag})
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return self.reply(206, body[start:], {"Content-Range": span, "ETag": tag})
        return self.reply(200, body, {"ETag": tag})

    def reply(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.server.breaks and len(body) > 10:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "WAIT", 0.0)
    monkeypatch.setattr(downloads, "CHUNK", 1 << 12)
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(fetching, "ZENODO", f"{serving.url}/api/records")
        yield serving
        serving.shutdown()


Make = Callable[..., Workspace]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def workspace(source: str, pinned: dict[str, dict[str, object]] | None = None, **dataset: object) -> Workspace:
        study = yaml.safe_load((STUDIES / "demo.yaml").read_text()) | {"pinned": pinned or {}}
        study["dataset"] |= {"source": source, **dataset}
        study["simulation"] = {"tiles": 5, "size": 12, "dates": 6}
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work/params.yaml").write_text(yaml.safe_dump(study))
        return Workspace(tmp_path / "work")

    return workspace


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return stream.getvalue()


def held(workspace: Workspace) -> dict[str, bytes]:
    found = {p.relative_to(workspace.raw).as_posix(): p.read_bytes() for p in workspace.raw.rglob("*") if p.is_file()}
    assert "lineage.json" in found
    return {name: body for name, body in found.items() if name != "lineage.json"}


def refused(workspace: Workspace, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fetch(workspace, Silent())
    assert not workspace.raw.exists()
    assert not list(workspace.root.glob("data/.raw*"))


BODY = bytes(range(256)) * 400


def test_a_download_that_breaks_goes_on_where_it_broke(server: Server, make: Make) -> None:
    server.files["/a.bin"], server.breaks = BODY, 3
    workspace = make(f"{server.url}/a.bin")
    assert fetch(workspace, Silent())["bytes"] == len(BODY)
    assert held(workspace) == {"a.bin": BODY}
    half = len(BODY) // 2
    assert server.asked == [
        None,
        f"bytes={half}-",
        f"bytes={half + half // 2}-",
        f"bytes={half + half // 2 + half // 4}-",
    ]
    assert not workspace.resume("fetch").exists()


def test_a_killed_run_is_taken_up_by_the_next(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/a.bin"], server.breaks = BODY, 1
    workspace = make(f"{server.url}/a.bin")
    with monkeypatch.context() as patch:
        patch.setattr(downloads.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(workspace, Silent())
    assert (workspace.resume("fetch") / "a.bin.part").stat().st_size == len(BODY) // 2
    fetch(workspace, Silent())
    assert server.asked[-1] == f"bytes={len(BODY) // 2}-"
    assert held(workspace) == {"a.bin": BODY}


def test_a_file_that_changed_between_two_runs_is_begun_anew(server: Server, make: Make) -> None:
    server.files["/a.bin"] = BODY
    workspace = make(f"{server.url}/a.bin")
    state = workspace.resume("fetch")
    state.mkdir(parents=True)
    (state / "a.bin.part").write_bytes(b"old" * 100)
    (state / "a.bin.origin").write_text(json.dumps({"url": f"{server.url}/a.bin", "version": '"old"'}))
    fetch(workspace, Silent())
    assert held(workspace) == {"a.bin": BODY}


def test_bytes_of_another_source_are_not_gone_on_from(server: Server, make: Make) -> None:
    server.files["/a.bin"] = BODY
    workspace = make(f"{server.url}/a.bin")
    state = workspace.resume("fetch")
    state.mkdir(parents=True)
    (state / "a.bin").write_bytes(b"other")
    (state / "a.bin.origin").write_text(json.dumps({"url": "http://elsewhere/a.bin", "version": ""}))
    fetch(workspace, Silent())
    assert held(workspace) == {"a.bin": BODY}


def test_a_part_that_is_already_whole_needs_no_byte_more(server: Server, make: Make) -> None:
    server.files["/a.bin"] = BODY
    workspace = make(f"{server.url}/a.bin")
    state = workspace.resume("fetch")
    state.mkdir(parents=True)
    (state / "a.bin.part").write_bytes(BODY)
    version = f'"{hashlib.md5(BODY).hexdigest()}"'
    (state / "a.bin.origin").write_text(json.dumps({"url": f"{server.url}/a.bin", "version": version}))
    fetch(workspace, Silent())
    assert server.asked == [f"bytes={len(BODY)}-"]
    assert held(workspace) == {"a.bin": BODY}


def test_a_server_without_ranges_sends_all_again(server: Server, make: Make) -> None:
    server.files["/a.bin"], server.breaks, server.ranges = BODY, 1, False
    workspace = make(f"{server.url}/a.bin")
    fetch(workspace, Silent())
    assert held(workspace) == {"a.bin": BODY}


def test_a_busy_server_is_asked_again_and_a_dead_one_named(server: Server, make: Make) -> None:
    server.files["/a.bin"], server.busy = BODY, 4
    fetch(make(f"{server.url}/a.bin"), Silent())
    server.busy = 100
    with pytest.raises(BadInput, match="8 tries brought nothing, at last: HTTP 503"):
        fetch(make(f"{server.url}/b.bin"), Silent())


def test_an_absent_address_is_refused_at_once(server: Server, make: Make) -> None:
    refused(make(f"{server.url}/none.zip"), "HTTP 404")
    assert len(server.asked) == 1


def test_wrong_bytes_are_refused_by_their_md5_and_not_kept(server: Server, make: Make) -> None:
    server.files["/a.bin"] = BODY
    workspace = make(f"{server.url}/a.bin", pinned={"a.bin": {"md5": "0" * 32}})
    refused(workspace, "md5 of a.bin is")
    assert not (workspace.resume("fetch") / "a.bin.part").exists()


def record(server: Server, number: int, files: dict[str, bytes], lie: bool = False) -> None:
    entries = []
    for name, body in files.items():
        server.files[f"/content/{name}"] = body
        checksum = "md5:" + ("1" * 32 if lie else hashlib.md5(body).hexdigest())
        link = {"self": f"{server.url}/content/{name}"}
        entries.append({"key": name, "size": len(body), "checksum": checksum, "links": link})
    server.files[f"/api/records/{number}"] = json.dumps({"files": entries}).encode()


def test_a_zenodo_record_is_downloaded_verified_and_unpacked(server: Server, make: Make) -> None:
    record(server, 5712933, {"data.zip": packed({"deep/x.txt": b"x", "y.txt": b"y"}), "read.me": b"hello"})
    workspace = make("zenodo:5712933")
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x.txt": b"x", "y.txt": b"y", "read.me": b"hello"}


def test_of_a_zenodo_record_only_the_named_files_are_taken(server: Server, make: Make) -> None:
    record(server, 1, {"a.txt": b"a", "b.txt": b"b"})
    workspace = make("zenodo:1", files=["b.txt"])
    fetch(workspace, Silent())
    assert held(workspace) == {"b.txt": b"b"}
    with pytest.raises(BadInput, match=r"\['c.txt'\] not among"):
        fetch(make("zenodo:1", files=["c.txt"]), Silent())
    assert held(workspace) == {"b.txt": b"b"}  # what stood stays


def test_a_zenodo_file_with_another_checksum_is_refused(server: Server, make: Make) -> None:
    record(server, 1, {"a.txt": b"a"}, lie=True)
    refused(make("zenodo:1"), "md5 of a.txt is")


@pytest.mark.parametrize("answer", [b"not json", b"[]", b'{"files": [{"key": "a"}]}', b'{"files": []}'])
def test_a_record_that_makes_no_sense_is_refused(server: Server, make: Make, answer: bytes) -> None:
    server.files["/api/records/7"] = answer
    refused(make("zenodo:7"), "not a record|holds no files")


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(server: Server, make: Make) -> None:
    record(server, 1, {"a.txt": b"a"})
    server.files["/api/records/1"] = server.files["/api/records/1"].replace(b'"size": 1', b'"size": 9999999999999999')
    refused(make("zenodo:1"), "GB needed")
    assert len(server.asked) == 1


def zip_slip() -> bytes:
    return packed({"fine.txt": b"fine", "../../outside.txt": b"out"})


def zip_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return stream.getvalue()


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(40 << 20))
    return stream.getvalue()


def zip_twice() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    return stream.getvalue()


def tarred(member: tarfile.TarInfo, body: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    return stream.getvalue()


def tar_link() -> bytes:
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return tarred(member)


@pytest.mark.parametrize(
    ("name", "build", "words"),
    [
        ("a.zip", zip_slip, "would leave the directory"),
        ("a.zip", zip_link, "is a link"),
        ("a.zip", zip_bomb, "times its size"),
        ("a.zip", zip_twice, "twice"),
        ("a.zip", lambda: packed({"a": b"a"})[:-5], "not a sound archive"),
        ("a.tar.gz", lambda: tarred(tarfile.TarInfo("/tmp/x"), b"x"), "would leave the directory"),
        ("a.tgz", lambda: tarred(tarfile.TarInfo("../x"), b"x"), "would leave the directory"),
        ("a.tar.gz", tar_link, "is a link"),
        ("a.tar.gz", lambda: tarred(tarfile.TarInfo("x"), BODY)[:100], "not a sound archive"),
    ],
)
def test_an_archive_writes_nowhere_outside_its_directory(
    server: Server, make: Make, name: str, build: Callable[[], bytes], words: str
) -> None:
    server.files[f"/{name}"] = build()
    workspace = make(f"{server.url}/{name}")
    refused(workspace, words)
    assert not list(workspace.root.parent.rglob("outside.txt"))


def test_a_tar_and_a_file_url_and_a_path_give_the_same(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tarred(tarfile.TarInfo("deep/x"), b"x"))
    for source in ((tmp_path / "a.tar.gz").as_uri(), "../a.tar.gz"):
        workspace = make(source)
        fetch(workspace, Silent())
        assert held(workspace) == {"deep/x": b"x"}


def test_all_files_below_an_fsspec_address_are_taken(make: Make, tmp_path: Path) -> None:
    (tmp_path / "bucket/deep").mkdir(parents=True)
    (tmp_path / "bucket/deep/x").write_bytes(b"x")
    (tmp_path / "bucket/y").write_bytes(b"y")
    workspace = make((tmp_path / "bucket").as_uri())
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x": b"x", "y": b"y"}


def test_a_directory_is_linked_file_by_file_from_the_workspace(make: Make, tmp_path: Path) -> None:
    (tmp_path / "archive/deep").mkdir(parents=True)
    (tmp_path / "archive/deep/x").write_bytes(b"x")
    workspace = make("../archive")
    summary = fetch(workspace, Silent())
    assert (workspace.raw / "deep/x").is_symlink()
    assert held(workspace) == {"deep/x": b"x"}
    assert summary == {"source": "../archive", "files": 1, "bytes": 1}


@pytest.mark.parametrize("source", ["../none", "../empty", ".", "", "zenodo:abc", "nosuch://bucket/key", "http://"])
def test_a_source_that_is_missing_empty_or_senseless_is_refused(make: Make, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    refused(make(source), "dataset.source")


def test_a_simulated_study_gives_the_same_bytes_again(make: Make) -> None:
    workspace = make("simulated")
    fetch(workspace, Silent())
    first = storage.digest(workspace.raw)
    fetch(workspace, Silent())
    assert storage.digest(workspace.raw) == first
    assert (workspace.raw / "data_IJGI18/datasets/full/240/data19/1.tfrecord.gz").exists()
