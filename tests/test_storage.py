"""Files are written whole or not at all; digests are DVC's."""

from pathlib import Path

import pytest

from stcln.errors import BadInput
from stcln.storage import digest, read_json, whole_directory, write_json


def test_a_directory_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("kept")
    with pytest.raises(RuntimeError), whole_directory(target) as part:
        (part / "new").write_text("half")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with whole_directory(target) as part:
        (part / "new").write_text("whole")
    assert [p.name for p in target.iterdir()] == ["new"]


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".out.0123abcd.part").mkdir()
    with whole_directory(tmp_path / "out") as part:
        (part / "x").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_digest_of_a_file_and_of_a_directory_is_the_one_dvc_records(tmp_path: Path) -> None:
    """Both figures come from `dvc add` 3.67 on the same bytes."""
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/a").write_text("a\n")
    (tmp_path / "d/sub/b").write_text("b\n")
    assert digest(tmp_path / "d/a") == "60b725f10c9c85c70d97880dfe8191b3"
    assert digest(tmp_path / "d") == "8b3662b0d460701f7734cdf533c5aa85.dir"


@pytest.mark.parametrize("left", [".2018.zarr.0123abcd.part/zarr.json", "sub/.b.0123abcd.old/x", ".a.part"])
def test_what_is_unfinished_in_a_directory_does_not_count_in_its_digest(tmp_path: Path, left: str) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/b.part").write_text("b")
    before = digest(tmp_path / "d")
    (tmp_path / "d" / left).parent.mkdir(exist_ok=True)
    (tmp_path / "d" / left).write_text("half")
    assert digest(tmp_path / "d") == before
    (tmp_path / "d/sub/b.part").unlink()
    assert digest(tmp_path / "d") != before, "only hidden names are unfinished"


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "one", {"b": 1, "a": [1.5]})
    write_json(tmp_path / "two", {"a": [1.5], "b": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(("text", "problem"), [(None, "missing"), ("{", "not JSON")])
def test_a_json_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "card.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=f"card.json: .*{problem}"):
        read_json(path)
