"""Where readers find the archive: data/raw, or in place at a linked address, as long as it is what was linked."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from upath import UPath

from stcln import storage
from stcln.data import archive
from stcln.errors import BadInput, NoAnswer
from stcln.storage import write_json
from stcln.study import Dataset
from stcln.workspace import Workspace


@pytest.fixture
def bucket() -> str:
    """An address in memory with two files."""
    address = f"memory://{uuid.uuid4().hex}"
    put(address, "a/one.npy", b"one")
    put(address, "two.csv", b"two")
    return address


def put(address: str, name: str, content: bytes) -> None:
    with fsspec.open(f"{address}/{name}", "wb") as out:
        out.write(content)


def dataset(source: str, **fields: Any) -> Dataset:
    return Dataset(source=source, layout="cube", linked=True, **fields)


def linked(root: Path, source: str) -> Workspace:
    """A workspace whose fetch linked the source."""
    workspace = Workspace(root)
    workspace.raw.mkdir(parents=True)
    relink(workspace, source)
    return workspace


def relink(workspace: Workspace, source: str) -> None:
    write_json(workspace.raw / archive.LINKED, archive.link(dataset(source)))


def test_without_a_link_readers_start_from_data_raw(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(BadInput, match=r"data/raw: no archive here; run `python -m stcln fetch` first"):
        archive.root(workspace)
    workspace.raw.mkdir(parents=True)
    assert archive.root(workspace) == workspace.raw
    sources = [workspace.raw / "b", workspace.raw / "a"]
    assert archive.inputs(workspace, sources) == sources


def test_a_linked_directory_is_read_where_it_lies(tmp_path: Path, bucket: str) -> None:
    root = archive.root(linked(tmp_path, bucket))
    assert isinstance(root, UPath) and (root / "a/one.npy").read_bytes() == b"one"
    assert sorted(path.name for path in root.iterdir()) == ["a", "two.csv"]


def test_a_linked_file_lies_in_its_directory(tmp_path: Path, bucket: str) -> None:
    root = archive.root(linked(tmp_path, f"{bucket}/a/one.npy"))
    assert (root / "one.npy").read_bytes() == b"one"


def test_what_was_read_in_place_is_recorded_by_its_part_of_the_list(tmp_path: Path, bucket: str) -> None:
    """A further season, so further files, leave what was made of the others as it is."""
    workspace = linked(tmp_path, bucket)
    root = archive.root(workspace)
    parts = archive.inputs(workspace, [root / "a", root / "two.csv"])
    assert [path.name for path in parts] == ["linked.json#a", "linked.json#two.csv"]
    before = [storage.digest(path) for path in parts]
    put(bucket, "b/new", b"")
    put(bucket, "ab", b"")
    relink(workspace, bucket)
    assert [storage.digest(path) for path in parts] == before and all(map(storage.exists, parts))
    put(bucket, "a/one.npy", b"One")
    relink(workspace, bucket)
    assert [storage.digest(path) == was for path, was in zip(parts, before, strict=True)] == [False, True]
    fsspec.filesystem("memory").rm(f"{bucket}/two.csv")
    relink(workspace, bucket)
    assert [storage.exists(path) for path in parts] == [True, False]


def test_a_linked_file_is_its_own_part(tmp_path: Path, bucket: str) -> None:
    workspace = linked(tmp_path, f"{bucket}/a/one.npy")
    (part,) = archive.inputs(workspace, [archive.root(workspace) / "one.npy"])
    assert storage.exists(part) and storage.file_of(part) == workspace.raw / archive.LINKED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda at: put(at, "two.csv", b"other"), "two.csv"),
        (lambda at: put(at, "a/one.npy", b"One"), "a/one.npy"),
        (lambda at: put(at, "new", b""), "new"),
        (lambda at: fsspec.filesystem("memory").rm(f"{at}/a/one.npy"), "a/one.npy"),
    ],
    ids=["longer", "as long", "new", "gone"],
)
def test_files_that_are_not_those_that_were_linked_are_refused(
    tmp_path: Path, bucket: str, change: Callable[[str], None], named: str
) -> None:
    workspace = linked(tmp_path, bucket)
    change(bucket)
    with pytest.raises(BadInput, match=rf"{bucket}: 1 files are not those that were linked: {named}; run .*fetch"):
        archive.root(workspace)


def test_a_broken_list_of_files_is_refused(tmp_path: Path, bucket: str) -> None:
    workspace = linked(tmp_path, bucket)
    write_json(workspace.raw / archive.LINKED, ["nonsense"])
    with pytest.raises(BadInput, match=r"linked.json: not a list of linked files; run `python -m stcln fetch` again"):
        archive.root(workspace)


@pytest.mark.parametrize(
    ("source", "fields", "message"),
    [
        ("https://example.org/a.nc", {}, "dataset.source: https://example.org/a.nc cannot be read in place"),
        ("zenodo:123", {}, "zenodo:123 cannot be read in place; set dataset.linked to false"),
        ("../archive", {}, "../archive cannot be read in place"),
        ("memory://nothing-here", {}, "dataset.source: memory://nothing-here holds no files; correct it"),
        ("nosuch://bucket/a", {}, "dataset.source: nosuch://bucket/a: Protocol not known: nosuch; correct the address"),
    ],
)
def test_what_cannot_be_linked_is_refused(source: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        archive.link(dataset(source, **fields))
    assert message in str(refused.value)


def test_a_packed_archive_or_a_choice_of_files_cannot_be_linked(bucket: str) -> None:
    with pytest.raises(BadInput, match=r"dataset.files: a linked source is read whole"):
        archive.link(dataset(bucket, files=("two.csv",)))
    put(bucket, "data.ZIP", b"")
    with pytest.raises(BadInput, match=r"data.ZIP is packed and cannot be read in place; set dataset.linked to false"):
        archive.link(dataset(bucket))


def gone() -> Any:
    """A stand-in for a root whose listing fails, as the file systems' clients fail."""

    class Root:
        fs = fsspec.filesystem("memory")

        def iterdir(self) -> Any:
            raise TimeoutError("no route to host")

        def __str__(self) -> str:
            return "s3://bucket/a"

    return Root()


def test_a_tile_that_seems_broken_while_the_server_is_gone_is_not_broken(bucket: str) -> None:
    broken = BadInput("s3://bucket/a/one.npy", "not a whole .npy file", "fetch the archive again")
    said = r"s3://bucket/a: the server does not answer, no route to host; check the line"
    with pytest.raises(NoAnswer, match=said), archive.answering(gone()):
        raise broken
    with pytest.raises(BadInput, match=r"not a whole .npy file") as refused, archive.answering(UPath(bucket)):
        raise broken
    assert not isinstance(refused.value, NoAnswer)


def test_a_tile_that_seems_broken_because_of_the_line_is_not_broken(bucket: str) -> None:
    """A server that answers again by the time it is asked: the reader had made its error a broken tile."""
    aiohttp = pytest.importorskip("aiohttp")

    def read(error: Exception) -> None:
        try:
            raise OSError("cut off") from error
        except OSError as broken:
            raise BadInput("s3://bucket/a/one.npy", str(broken), "fetch the archive again") from None

    with pytest.raises(NoAnswer, match=r"does not answer, torn"), archive.answering(UPath(bucket)):
        read(aiohttp.ClientPayloadError("torn"))
    for error in (FileNotFoundError("one.npy"), ValueError("no array")):
        with pytest.raises(BadInput, match=r"one.npy: cut off; fetch") as refused, archive.answering(UPath(bucket)):
            read(error)
        assert not isinstance(refused.value, NoAnswer)


def test_an_error_of_the_program_is_not_told_as_the_servers(bucket: str) -> None:
    with pytest.raises(ZeroDivisionError), archive.answering(UPath(bucket)):
        raise ZeroDivisionError
    with pytest.raises(OSError, match="local"), archive.answering(Path("here")):
        raise OSError("local")


def test_the_list_does_not_depend_on_the_order_of_the_listing(bucket: str) -> None:
    names = [list(archive.link(dataset(f"{bucket}{slash}"))["files"]) for slash in ("", "/")]
    assert names == [["a/one.npy", "two.csv"]] * 2
