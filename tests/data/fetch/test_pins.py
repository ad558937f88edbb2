"""What the study knows of a source's files is checked at every fetch, and written down after the first."""

import hashlib
from pathlib import Path

import fsspec
import pytest
import yaml
from hostile import Server

from stcln.data.fetch import fetch
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.parameters import change
from stcln.study import load_study
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[3] / "studies"
MD5 = hashlib.md5(b"body").hexdigest()


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str, values: object = None) -> None:
        self.notes.append(f"{message} {values}")


def study_of(workspace: Workspace) -> Workspace:
    """The same workspace, its params.yaml read anew."""
    return Workspace(workspace.root)


def test_the_first_download_is_pinned_and_a_second_needs_no_change(server: Server, make) -> None:
    workspace = make(server.put("/a b.bin", b"body").replace(" ", "%20"))
    server.files["/a%20b.bin"] = server.files["/a b.bin"]
    told = Told()
    fetch(workspace, told)
    assert load_study(workspace.root / "params.yaml").pinned["a b.bin"].model_dump() == {"bytes": 4, "md5": MD5}
    assert any("pinned in params.yaml, commit it" in note and MD5 in note for note in told.notes)
    before = (workspace.root / "params.yaml").stat().st_mtime_ns
    fetch(study_of(workspace), told)
    assert (workspace.root / "params.yaml").stat().st_mtime_ns == before


def test_a_file_that_is_no_longer_the_pinned_one_is_refused(server: Server, make) -> None:
    workspace = make(server.put("/a.bin", b"body"))
    fetch(workspace, Silent())
    server.files["/a.bin"].change(b"BODY")
    with pytest.raises(BadInput, match=r"md5 of a\.bin is"):
        fetch(study_of(workspace), Silent())
    server.files["/a.bin"].change(b"longer body")
    with pytest.raises(BadInput, match="11 bytes, 4 were announced"):
        fetch(study_of(workspace), Silent())
    assert (workspace.raw / "a.bin").read_bytes() == b"body"  # what stood stays


def test_a_pin_that_the_source_contradicts_is_named(server: Server, make) -> None:
    text = '{"files": [{"key": "a", "size": 4, "checksum": "md5:%s", "links": {"self": "%s"}}]}'
    server.put("/api/records/1", (text % (MD5, server.put("/a", b"body"))).encode())
    with pytest.raises(BadInput, match=f"field pinned: md5 {'0' * 32} for a, but the source says {MD5}"):
        fetch(make("zenodo:1", pinned={"a": {"md5": "0" * 32}}), Silent())
    with pytest.raises(BadInput, match="field pinned: bytes 5 for a, but the source says 4"):
        fetch(make("zenodo:1", pinned={"a": {"bytes": 5}}), Silent())


def test_what_half_a_pin_lacks_is_added(server: Server, make) -> None:
    workspace = make(server.put("/a", b"body"), pinned={"a": {"md5": MD5}, "b": {"bytes": 7}})
    fetch(workspace, Silent())
    pinned = yaml.safe_load((workspace.root / "params.yaml").read_text())["pinned"]
    assert pinned == {"a": {"bytes": 4, "md5": MD5}, "b": {"bytes": 7}}


@pytest.mark.parametrize(
    ("pin", "problem"),
    [({"bytes": 5}, "a has 4 bytes, 5 are pinned"), ({"md5": "0" * 32}, f"md5 of a is {MD5}, {'0' * 32} is pinned")],
)
@pytest.mark.parametrize("how", ["directory", "file", "archive", "linked address"])
def test_what_is_not_copied_is_held_to_its_pins_too(
    make, tmp_path: Path, how: str, pin: dict[str, object], problem: str
) -> None:
    name = "a.tar" if how == "archive" else "a"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(b"body")
    fsspec.filesystem("memory").pipe("/pinned/a", b"body")
    source = {"directory": "../source", "linked address": "memory://pinned"}.get(how, f"../source/{name}")
    workspace = make(source, pinned={name: pin}, linked=how == "linked address")
    with pytest.raises(BadInput, match=problem.replace("a has", f"{name} has").replace("of a is", f"of {name} is")):
        fetch(workspace, Silent())
    assert not workspace.raw.exists()
    good = make(source, pinned={name: {"bytes": 4, "md5": MD5}}, linked=how == "linked address")
    if how != "archive":  # four bytes are none
        fetch(good, Silent())


def test_many_files_are_not_pinned_one_by_one(make) -> None:
    fsspec.filesystem("memory").pipe({f"/many/{n}": b"x" for n in range(40)})
    workspace, told = make("memory://many"), Told()
    before = (workspace.root / "params.yaml").read_text()
    fetch(workspace, told)
    assert (workspace.root / "params.yaml").read_text() == before
    assert any("40 files are not pinned one by one" in note for note in told.notes)


def test_a_params_file_that_cannot_be_changed_is_told_with_what_to_add(
    server: Server, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr("stcln.data.fetch.pins.change", read_only)
    workspace, told = make(server.put("/a", b"body")), Told()
    fetch(workspace, told)
    assert (workspace.raw / "a").read_bytes() == b"body"
    assert any("Read-only" in note and f"{{bytes: 4, md5: {MD5}}}" in note for note in told.notes)


@pytest.mark.parametrize("name", ["demo", "mtlcc", "pastis", "flanders"])
def test_a_changed_section_leaves_every_other_line_and_comment(tmp_path: Path, name: str) -> None:
    text = (STUDIES / f"{name}.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text)
    (tmp_path / "params.yaml").symlink_to("study.yaml")
    change(tmp_path / "params.yaml", "pinned", lambda pinned: pinned.update(b={"bytes": 5, "md5": "1" * 32}))
    assert (tmp_path / "params.yaml").is_symlink()
    now = (tmp_path / "study.yaml").read_text()
    added = [line for line in now.splitlines() if line not in text.splitlines()]
    assert [line for line in now.splitlines() if line not in added] == text.splitlines()
    assert [line for line in added if line != "pinned:"] == ["  b:", "    bytes: 5", f"    md5: '{'1' * 32}'"]
    assert load_study(tmp_path / "params.yaml").pinned["b"].bytes == 5


def test_a_comment_in_column_0_does_not_end_a_section(tmp_path: Path) -> None:
    path, text = tmp_path / "params.yaml", (STUDIES / "pastis.yaml").read_text()
    path.write_text(text.replace("  only: {}", "# a trial:\n\n  only: {}"))
    change(path, "dataset", lambda dataset: dataset.__setitem__("only", {"fold": 5}))
    assert load_study(path).dataset.only.fold == 5
    assert path.read_text().count("only:") == 1 and "# a trial:\n" in path.read_text()


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "params.yaml", (STUDIES / "demo.yaml").read_text()
    for twice in ("name: other\n", "splits: {}\n", '"pinned": {}\npinned: {}\n'):
        path.write_text(text + twice)
        with pytest.raises(BadInput, match=r"stands twice.*line \d+"):
            load_study(path)


def test_a_change_that_the_study_forbids_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((STUDIES / "demo.yaml").read_text())
    with pytest.raises(BadInput, match=r"params\.yaml, field pinned\.b\.md5: .*got 'x'"):
        change(path, "pinned", lambda pinned: pinned.update(b={"md5": "x"}))
    assert path.read_text() == (STUDIES / "demo.yaml").read_text()
    assert [found.name for found in tmp_path.iterdir()] == ["params.yaml"]


def test_a_section_that_leans_on_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (STUDIES / "demo.yaml").read_text().replace("name: demo", "name: &name demo", 1) + "pinned: {x: *name}\n"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"field pinned: not YAML by itself: .*; write it without references"):
        change(path, "pinned", lambda pinned: None)
    assert path.read_text() == text
