"""What the tests of bad input share: a command line run in this process, and an archive to break."""

import gzip
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_study import STUDY

from stcln.cli import main
from stcln.data.readers import tfrecord
from stcln.data.simulate import archive
from stcln.events import Silent

SIZES = {"mtlcc": 12, "pastis": 8, "cube": 16}
SPLITS = {"mtlcc": ("train_fold0", "test_fold0", "eval"), "pastis": ("fold_1", "fold_2", "fold_3")}

Break = Callable[[Path], object]
Refused = Callable[[str, str], None]


def listing(root: Path) -> set[str]:
    """Every file and hidden directory below `root`, but the resume state, which a refused run may leave on purpose."""
    paths = [path for path in root.rglob("*") if ".stcln" not in path.parts]
    return {path.relative_to(root).as_posix() for path in paths if not path.is_dir() or path.name.startswith(".")}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """A function: run the command line in `tmp_path`; it must end in one sentence and leave every directory as it was.

    What the sentence must hold is given with ` … ` for what lies between.
    """
    monkeypatch.chdir(tmp_path)

    def run(argv: str, wanted: str) -> None:
        before = listing(tmp_path)
        monkeypatch.setattr(sys, "argv", ["stcln", *argv.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        *told, sentence = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2, sentence
        assert sentence.startswith("stcln: ") and sentence.endswith(".") and "; " in sentence, sentence
        assert not [line for line in told if line.startswith(("stcln: ", "Traceback"))]
        assert listing(tmp_path) == before
        at = 0
        for word in wanted.split(" … "):
            assert word in sentence[at:], f"{word!r} is not where it should be in: {sentence}"
            at = sentence.index(word, at) + len(word)

    return run


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A simulated archive of season 2018 by layout; four tiles each. Read only."""
    root = tmp_path_factory.mktemp("archives")
    for layout, size in SIZES.items():
        archive(root / layout, layout, ["2018"], 4, size, 1, Silent())
    return {layout: root / layout for layout in SIZES}


def study(root: Path, layout: str, **dataset: Any) -> None:
    """A workspace's params.yaml for a simulated archive at data/raw."""
    names = SPLITS.get(layout, ("train", "validation", "test"))
    train, validation, test = ({"take": [name]} for name in names)
    start = "01-01" if layout == "mtlcc" else "09-01"
    changed = {
        "dataset": {"source": "archive", "layout": layout, "season_start": start, "tile": 8, **dataset},
        "splits": {"pretrain": train, "train": train, "validation": validation, "test": test},
        "cells": {**STUDY["cells"], "season": ["2018"]},
        "pretrain": {**STUDY["pretrain"], "seasons": ["2018"]},
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(STUDY | changed))


def rewrite(path: Path, **changes: bytes | tuple[int, ...]) -> None:
    """Change features of a record, `x20__shape` for x20/shape, and write it with good checksums."""
    (payload,) = tfrecord.read(path)
    found = {key: v[0] if isinstance(v, list) else v.tolist() for key, v in tfrecord.parse(path, payload).items()}
    found |= {key.replace("__", "/"): value for key, value in changes.items()}
    tfrecord.write(path, [tfrecord.encode(found)])


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Flip a bit of a record inside its gzip."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[byte] ^= 1 << bit
    path.write_bytes(gzip.compress(bytes(data)))


def integers(*values: int) -> bytes:
    """As a record holds them."""
    return np.array(values, "<i8").tobytes()


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
