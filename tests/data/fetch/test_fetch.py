"""The step: what a source names is brought, checked, unpacked or linked, whole or not at all."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import fsspec
import pytest
from hostile import Server

from stcln import storage
from stcln.data.fetch import fetch
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.workspace import Workspace


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return stream.getvalue()


def tarred(name: str, body: bytes) -> bytes:
    stream, member = io.BytesIO(), tarfile.TarInfo(name)
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    return stream.getvalue()


def held(workspace: Workspace) -> dict[str, bytes]:
    found = {p.relative_to(workspace.raw).as_posix(): p.read_bytes() for p in workspace.raw.rglob("*") if p.is_file()}
    assert found.pop("lineage.json")
    assert not workspace.resume("fetch").exists()
    return found


def refused(workspace: Workspace, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fetch(workspace, Silent())
    assert not workspace.raw.exists()
    assert not list(workspace.root.glob("data/.raw*"))


@pytest.fixture
def bucket() -> Iterator[str]:
    """An address that only fsspec knows, holding deep/x and y."""
    system = fsspec.filesystem("memory")
    system.pipe({"/bucket/deep/x": b"x", "/bucket/y": b"y"})
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def record(server: Server, number: int, files: dict[str, bytes], **lies: object) -> None:
    """A Zenodo record, as its API describes it."""
    entries = []
    for name, body in files.items():
        link = {"self": server.put(f"/content/{quote(name)}", body)}
        true = {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}", "links": link}
        entries.append(true | lies)
    server.put(f"/api/records/{number}", json.dumps({"files": entries}).encode())


def test_an_absent_address_is_refused_at_once(server: Server, make) -> None:
    refused(make(f"{server.url}/none.zip"), "HTTP 404")
    assert len(server.asked) == 1


def test_wrong_bytes_are_refused_by_their_md5_and_not_kept(server: Server, make) -> None:
    workspace = make(server.put("/a.bin", b"other"), pinned={"a.bin": {"md5": "0" * 32}})
    refused(workspace, "md5 of a.bin is")
    assert not [path for path in workspace.resume("fetch").rglob("*") if path.is_file()]


def test_a_zenodo_record_is_downloaded_verified_and_unpacked(server: Server, make) -> None:
    record(server, 5712933, {"data.zip": packed({"deep/x.txt": b"x", "y.txt": b"y"}), "read me": b"hello"})
    workspace = make("zenodo:5712933")
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x.txt": b"x", "y.txt": b"y", "read me": b"hello"}


def test_of_a_zenodo_record_only_the_named_files_are_taken(server: Server, make) -> None:
    record(server, 1, {"a.txt": b"a", "b.txt": b"b"})
    workspace = make("zenodo:1", files=["b.txt"])
    fetch(workspace, Silent())
    assert held(workspace) == {"b.txt": b"b"}
    with pytest.raises(BadInput, match=r"\['c.txt'\] not among"):
        fetch(make("zenodo:1", files=["c.txt"]), Silent())
    assert held(workspace) == {"b.txt": b"b"}  # what stood stays


def test_a_zenodo_file_with_another_checksum_is_refused(server: Server, make) -> None:
    record(server, 1, {"a.txt": b"a"}, checksum=f"md5:{'1' * 32}")
    refused(make("zenodo:1"), "md5 of a.txt is")


@pytest.mark.parametrize(
    "answer",
    ["not json", "[]", '{"files": [{"key": "a"}]}', '{"files": []}', '{"files": 7}'],
)
def test_a_record_that_makes_no_sense_is_refused(server: Server, make, answer: str) -> None:
    server.put("/api/records/7", answer.encode())
    refused(make("zenodo:7"), "not a record|holds no files")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", ""])
def test_a_file_name_that_leaves_the_directory_is_refused(server: Server, make, name: str) -> None:
    record(server, 1, {"a.txt": b"a"}, key=name)
    refused(make("zenodo:1"), "would leave the directory")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a", "a")])
def test_two_files_that_stand_in_each_others_way_are_refused(server: Server, make, names: tuple[str, str]) -> None:
    server.put("/a", b"a")
    entries = [{"key": name, "size": 1, "checksum": "md5:", "links": {"self": f"{server.url}/a"}} for name in names]
    server.put("/api/records/1", json.dumps({"files": entries}).encode())
    refused(make("zenodo:1"), "'a' is two files, or a file and a directory")


def test_a_file_and_an_archives_member_of_one_name_are_refused(server: Server, make) -> None:
    record(server, 1, {"a.zip": packed({"b": b"packed"}), "b": b"plain"})
    refused(make("zenodo:1"), "the same name")


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(server: Server, make) -> None:
    record(server, 1, {"a.txt": b"a"}, size=10**16)
    refused(make("zenodo:1"), "GB needed")
    assert {path for path, _ in server.asked} == {"/api/records/1"}


def test_an_archive_that_came_broken_is_fetched_again_by_the_next_run(server: Server, make) -> None:
    """Without a checksum nobody noticed it on the way; with one, the source itself has it broken, and it is kept."""
    body = packed({"x": b"x" * 1000})
    broken = body.replace(b"xxx", b"xyx", 1)
    server.put("/a.zip", broken)
    server.put("/pinned.zip", broken)
    pinned = {"pinned.zip": {"md5": hashlib.md5(broken).hexdigest()}}
    for name, asked in (("a.zip", 2), ("pinned.zip", 1)):
        workspace = make(f"{server.url}/{name}", pinned=pinned)
        for _ in range(2):
            refused(workspace, "not a sound archive")
        assert sum(end - start == len(body) for at, start, end in server.sent if at == f"/{name}") == asked
    server.put("/a.zip", body)
    workspace = make(f"{server.url}/a.zip")
    fetch(workspace, Silent())
    assert held(workspace) == {"x": b"x" * 1000}


def test_the_environments_proxy_is_asked(server: Server, make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:secret@"))
    server.put("http://far.example/a.bin", b"far")
    workspace = make("http://far.example/a.bin")
    fetch(workspace, Silent())
    assert held(workspace) == {"a.bin": b"far"}
    assert server.proxy_secrets == {"Basic dXNlcjpzZWNyZXQ="}


def test_an_address_that_moved_is_followed(server: Server, make) -> None:
    server.put("/a.bin", b"a" * 100_000)
    server.moved["/old.bin"] = "/a.bin"
    workspace = make(f"{server.url}/old.bin")
    fetch(workspace, Silent())
    assert held(workspace) == {"old.bin": b"a" * 100_000}
    server.moved["/round"] = "/round"
    with pytest.raises(BadInput, match="too many redirects"):
        fetch(make(f"{server.url}/round"), Silent())


@pytest.mark.parametrize("lacking", [0, 1])
def test_an_archive_needs_room_for_its_members_too(
    server: Server, make, monkeypatch: pytest.MonkeyPatch, lacking: int
) -> None:
    body = packed({"x": bytes(10**6)})
    record(server, 1, {"a.zip": body})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 * len(body) - lacking))
    if lacking:
        refused(make("zenodo:1"), "GB needed")
    else:
        fetch(make("zenodo:1"), Silent())


@pytest.mark.parametrize("as_address", [True, False])
def test_an_archive_on_this_machine_is_unpacked_where_it_lies(make, tmp_path: Path, as_address: bool) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tarred("deep/x", b"x"))
    workspace = make((tmp_path / "a.tar.gz").as_uri() if as_address else "../a.tar.gz")
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x": b"x"}


def test_a_single_file_on_this_machine_is_linked(make, tmp_path: Path) -> None:
    (tmp_path / "cube 2018.nc").write_bytes(b"cube")
    workspace = make("../cube 2018.nc")
    fetch(workspace, Silent())
    assert (workspace.raw / "cube 2018.nc").is_symlink()
    assert held(workspace) == {"cube 2018.nc": b"cube"}


def test_all_files_below_an_fsspec_address_are_taken(make, bucket: str) -> None:
    workspace = make(bucket)
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x": b"x", "y": b"y"}


def test_of_an_fsspec_address_only_the_named_files_are_taken(make, bucket: str) -> None:
    workspace = make(bucket, files=["deep/x"])
    fetch(workspace, Silent())
    assert held(workspace) == {"deep/x": b"x"}
    with pytest.raises(BadInput, match=r"memory://bucket/deep/none: .*not there"):
        fetch(make(bucket, files=["deep/none"]), Silent())


@pytest.mark.parametrize("as_address", [True, False])
def test_a_directory_is_linked_file_by_file_from_the_workspace(make, tmp_path: Path, as_address: bool) -> None:
    (tmp_path / "archive/deep").mkdir(parents=True)
    (tmp_path / "archive/deep/x").write_bytes(b"x")
    source = (tmp_path / "archive").as_uri() if as_address else "../archive"
    workspace = make(source)
    summary = fetch(workspace, Silent())
    assert (workspace.raw / "deep/x").is_symlink()
    assert held(workspace) == {"deep/x": b"x"}
    assert summary == {"source": source, "files": 1, "bytes": 1}


def test_an_archive_named_in_a_directory_is_not_linked_unopened(make, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/PASTIS.zip").write_bytes(packed({"x": b"x"}))
    refused(make("../downloads", files=["PASTIS.zip"]), r"PASTIS\.zip is packed; name it in dataset\.source")
    workspace = make("../downloads/PASTIS.zip", files=["PASTIS.zip"])
    fetch(workspace, Silent())
    assert held(workspace) == {"x": b"x"}


def test_folders_that_are_links_are_followed_and_one_that_leads_back_is_not(make, tmp_path: Path) -> None:
    for folder in ("archive", "disk"):
        (tmp_path / folder).mkdir()
    (tmp_path / "disk/x").write_bytes(b"x")
    (tmp_path / "archive/data18").symlink_to(tmp_path / "disk")
    (tmp_path / "archive/data19").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(tmp_path / "archive")
    (tmp_path / "archive/nowhere").symlink_to(tmp_path / "gone")
    workspace = make("../archive")
    fetch(workspace, Silent())
    assert held(workspace) == {"data18/x": b"x", "data19/x": b"x"}


def test_of_a_directory_only_the_named_files_are_linked(make, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for name in "ab":
        (tmp_path / "archive" / name).write_text(name)
    workspace = make("../archive", files=["b"])
    fetch(workspace, Silent())
    assert held(workspace) == {"b": b"b"}
    with pytest.raises(BadInput, match=r"dataset.files: \['c'\] not in"):
        fetch(make("../archive", files=["c"]), Silent())


@pytest.mark.parametrize(
    "source",
    [
        "../none",
        "../empty",
        ".",
        "",
        "zenodo:abc",
        "nosuch://bucket/key",
        "http://",
        "http:///a",
        "http://127.0.0.1/directory/",
        "file:///none",
    ],
)
def test_a_source_that_is_missing_empty_or_senseless_is_refused(make, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    refused(make(source), "dataset.source")


def test_a_linked_address_gives_a_list_of_its_files_and_no_bytes(make, bucket: str) -> None:
    workspace = make(bucket, linked=True)
    fetch(workspace, Silent())
    (name,) = held(workspace)
    found = json.loads((workspace.raw / name).read_text())
    assert name == "linked.json" and found["source"] == bucket
    assert {key: file["bytes"] for key, file in found["files"].items()} == {"deep/x": 1, "y": 1}


def test_a_simulated_study_gives_the_same_bytes_again(make) -> None:
    workspace = make("simulated")
    fetch(workspace, Silent())
    first = storage.digest(workspace.raw)
    fetch(workspace, Silent())
    assert storage.digest(workspace.raw) == first
    assert (workspace.raw / "data_IJGI18/datasets/full/240/data19/1.tfrecord.gz").exists()
