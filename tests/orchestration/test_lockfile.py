"""dvc.lock is written as DVC would write it, but whole or not at all, and one entry without the others."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from orchestration.lockfile import LockFile
from stcln.errors import BadInput

pytestmark = pytest.mark.orchestration


@pytest.fixture
def text(reproduced: Path) -> str:
    """A dvc.lock of DVC's own."""
    return (reproduced / "dvc.lock").read_text()


def lock_file(directory: Path, text: str) -> LockFile:
    path = directory / "dvc.lock"
    path.write_text(text)
    return LockFile(path)


def stages(text: str) -> dict[str, object]:
    return dict(yaml.load(text, yaml.CSafeLoader)["stages"])


def test_entries_put_one_by_one_give_the_bytes_of_dvc(tmp_path: Path, text: str) -> None:
    lock = LockFile(tmp_path / "dvc.lock")
    for name, entry in stages(text).items():
        lock.put(name, entry)
    assert lock.path.read_text() == text
    assert lock.read(stages(text)) == stages(text)


def test_an_entry_takes_the_place_of_the_stages_last_one_and_no_other_byte_changes(tmp_path: Path, text: str) -> None:
    lock = lock_file(tmp_path, f"# mine\n{text}datasets:\n- name: more\n")
    lock.put("pretrain", {"cmd": "another"})
    put = re.sub(r"(?ms)^  pretrain:\n.*?(?=^  \S)", "  pretrain:\n    cmd: another\n", text)
    assert put != text
    assert lock.path.read_text() == f"# mine\n{put}datasets:\n- name: more\n"


@pytest.mark.parametrize("seed", range(5))
def test_of_a_torn_file_all_whole_entries_are_kept_and_the_torn_one_counts_as_none(
    tmp_path: Path, text: str, seed: int
) -> None:
    draw, known = random.Random(seed), stages(text)
    for _ in range(20):
        cut = draw.randrange(text.index("  prepare@"), len(text))
        lock = lock_file(tmp_path, text[:cut])
        *whole, torn = [name for name in known if f"\n  {name}:\n" in text[:cut]]
        lock.put("export", {"cmd": "a run"})
        after = stages(lock.path.read_text())
        assert after.pop("export") == {"cmd": "a run"}
        after.pop(torn, None)
        assert after == {name: known[name] for name in whole if name != "export"}


def test_a_layout_that_is_not_dvcs_is_taken_over(tmp_path: Path, text: str) -> None:
    lock = lock_file(tmp_path, yaml.safe_dump(yaml.safe_load(text), indent=7, sort_keys=False))
    lock.put("fetch", {"cmd": "another"})
    assert stages(lock.path.read_text()) == stages(text) | {"fetch": {"cmd": "another"}}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: f"<<<<<<< HEAD\n{text}",
        lambda text: text.replace("  pretrain:\n", "<<<<<<< HEAD\n  pretrain:\n"),
        lambda text: text + text[text.index("  fetch:") : text.index("  prepare@")],
        lambda text: "- no mapping\n",
        lambda text: "schema: '2.0'\nsta",
    ],
)
def test_what_is_no_lock_is_refused_with_a_remedy_and_left_as_it_is(
    tmp_path: Path, text: str, spoil: Callable[[str], str]
) -> None:
    lock = lock_file(tmp_path, spoil(text))
    with pytest.raises(BadInput, match=r"dvc\.lock: it is not as DVC writes it; take it from git, or delete it"):
        lock.put("fetch", {"cmd": "another"})
    assert lock.path.read_text() == spoil(text)


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_file(tmp_path, text)

    def full(self: Path, content: str, **_: object) -> None:
        with self.open("w") as stream:
            stream.write(content[:100])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        lock.put("fetch", {"cmd": "another"})
    assert lock.path.read_text() == text
