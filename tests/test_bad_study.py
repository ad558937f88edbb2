"""Bad studies, keys, sources and places to write, through the command line: one sentence, status 2, nothing written."""

import errno
import hashlib
import io
import zipfile
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import Refused
from tiny_study import STUDY, restudy

from stcln.workspace import Workspace

CELL = "--season 2016 --length d6 --arm"
STUDIES: dict[str, tuple[dict[str, Any], str]] = {
    "a negative seed": ({"seed": -1}, "seed … greater than or equal to 0 … -1 … correct"),
    "a rate of NaN": ({"finetune": {"learning_rate": float("nan")}}, "finetune.learning_rate … nan … correct"),
    "a rate without end": ({"finetune": {"learning_rate": float("inf")}}, "finetune.learning_rate … inf … correct"),
    "an NDVI of NaN": ({"pretrain": {"mask": {"ndvi": float("nan")}}}, "pretrain.mask.ndvi … nan … correct"),
    "a rate that is a boolean": ({"pretrain": {"learning_rate": True}}, "pretrain.learning_rate … True … correct"),
    "epochs that are a boolean": ({"pretrain": {"epochs": True}}, "pretrain.epochs … True … correct"),
    "more parts than samples": (
        {"finetune": {"batch": 4, "accumulate": 5}},
        "finetune … accumulate is 5, more parts than a batch of 4 has samples … correct",
    ),
    "no epochs": ({"pretrain": {"epochs": 0}}, "pretrain.epochs … greater than or equal to 1 … 0 … correct"),
    "a share above 1": ({"arms": {"scratch": {"labels": 1.1}}}, "arms.scratch.labels … 1.1 … correct"),
    "a mask of everything": ({"pretrain": {"mask": {"ratio": 1}}}, "pretrain.mask.ratio … 1 … correct"),
    "a day that no year has": ({"dataset": {"season_start": "02-30"}}, "dataset.season_start … 02-30 … correct"),
    "a root outside the archive": (
        {"dataset": {"root": "../../elsewhere"}},
        "dataset.root … ../../elsewhere … correct",
    ),
    "a checksum where it stood before": (
        {"dataset": {"md5": {"a.zip": "1" * 32}}},
        "dataset … md5 is now `pinned: … correct",
    ),
    "an absolute root": ({"dataset": {"root": "/elsewhere"}}, "dataset.root … /elsewhere … correct"),
    "a season that is no year": (
        {"cells": {"season": ["99999"]}, "pretrain": {"seasons": ["99999"]}},
        "study: … 99999 … not years … correct",
    ),
    "year 0": (
        {"cells": {"season": ["0000"]}, "pretrain": {"seasons": ["0000"]}},
        "study … 0000 … not years … correct",
    ),
    "an unknown field": ({"finetune": {"epoch": 3}}, "finetune.epoch … 3 … correct"),
    "a length of no date": ({"lengths": {"d6": {"dates": 0}}}, "lengths.d6.dates … 0 … correct"),
}


@pytest.mark.parametrize("fault", STUDIES)
def test_a_parameter_out_of_range_is_refused(tmp_path: Path, refused: Refused, fault: str):
    change, wanted = STUDIES[fault]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    restudy(Workspace(tmp_path), **change)
    refused("fetch", f"params.yaml, field {wanted}")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("params.yaml", b"", "params.yaml … correct"),
        ("params.yaml", b"- a\n", "params.yaml … correct"),
        ("params.yaml", b"a: [", "params.yaml … not YAML … mend"),
        ("params.yaml", b"\xff\xfe\x00\x81", "params.yaml … not YAML … mend"),
        ("code.yaml", b"", "code.yaml … new . --update"),
        ("code.yaml", b"a: [", "code.yaml … not YAML … new . --update"),
        ("dvc.yaml", b"", "dvc.yaml, stage fetch … new . --update"),
        ("dvc.yaml", b"a: [", "dvc.yaml … not YAML … new . --update"),
        ("dvc.yaml", b"stages: 3", "dvc.yaml … new . --update"),
    ],
)
def test_a_file_that_is_no_study_or_pipeline_is_refused(
    tmp_path: Path,
    refused: Refused,
    name: str,
    content: bytes,
    wanted: str,
):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / name).write_bytes(content)
    refused("fetch", wanted)


def test_a_directory_without_study_is_refused(tmp_path: Path, refused: Refused):
    refused("fetch", "params.yaml … no study here … run `python -m stcln new`")
    refused("fetch --workspace nowhere", "nowhere/params.yaml … no study here")
    (tmp_path / "params.yaml").mkdir()
    refused("fetch", "params.yaml … directory")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("prepare --season 2031", "cells.season … 2031 … 2016"),
        (f"finetune {CELL} best", "cells.pretrained … best … 'scratch' … pretrained-10pct … name one of these"),
        ("finetune --season 2016 --length d99 --arm scratch", "cells.length … d99 … d6 … name one of these"),
        ("evaluate --season ../.. --length d6 --arm scratch", "cells.season … ../.. … name one of these"),
    ],
)
def test_a_key_that_the_study_lacks_is_refused(tiny_workspace: Workspace, refused: Refused, argv: str, wanted: str):
    refused(f"{argv} --workspace {tiny_workspace.root}", f"params.yaml … {wanted}")


def test_a_torn_archive_of_a_source_is_refused(tmp_path: Path, refused: Refused):
    def source(name: str, pinned: dict[str, Any] = {}, **dataset: Any) -> None:  # noqa: B006
        changed = {**STUDY, "pinned": pinned, "dataset": {**STUDY["dataset"], "source": name, **dataset}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed))

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("a.txt", b"a" * 999)
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    (tmp_path / "torn.zip").write_bytes(stream.getvalue()[:-30])
    (tmp_path / "flipped.zip").write_bytes(stream.getvalue().replace(b"aaaa", b"aaba", 1))
    (tmp_path / "empty").mkdir()
    wrong, right = hashlib.md5(b"other").hexdigest(), hashlib.md5(stream.getvalue()).hexdigest()
    for name, dataset, wanted in (
        ("absent", {}, "params.yaml, field dataset.source … absent … missing … correct it"),
        ("empty", {}, "field dataset.source … empty holds no files … name the directory"),
        (".", {}, "field dataset.source … contains data/raw itself … name the archive's own"),
        ("torn.zip", {}, "torn.zip … not a sound archive … get it again"),
        ("flipped.zip", {}, "flipped.zip … not a sound archive … get it again"),
        ("a.zip", {"pinned": {"a.zip": {"md5": wrong}}}, f"field pinned … a.zip … {right} … {wrong} … remove the pin"),
        ("a.zip", {"files": ["b.zip"]}, "field dataset.files … b.zip … name what it holds"),
        ("zenodo:12x", {}, "field dataset.source … zenodo:12x … number"),
        ("nosuch://bucket/a", {}, "field dataset.source … nosuch … correct it"),
    ):
        source(name, **dataset)
        refused("fetch", wanted)


def test_a_simulation_that_cannot_be_is_refused(tmp_path: Path, refused: Refused):
    refused("simulate a --layout shapefile", "--layout … shapefile … choose one of")
    refused("simulate a --season spring", "--season … spring … give years")
    refused("simulate a --season 0000", "--season … 0000 … give years")
    refused("simulate a --tiles 0", "--tiles … 0 … give numbers")
    refused("simulate a --seed -1", "--seed … -1 … give")
    refused("simulate a --size 7", "7 … change the size")
    refused(f"simulate {tmp_path}", f"{tmp_path.name} … exists already … name a directory")


def test_a_new_workspace_that_cannot_be_is_refused(tmp_path: Path, refused: Refused):
    refused("new w --study nosuch", "nosuch … demo … name one of these")
    refused("new w --source nowhere", "nowhere … pass --source")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    refused("new full", "full … not an empty directory … name a new one")
    (tmp_path / "file").touch()
    refused("new file", "file … name a new one")
    refused("new nowhere/w", "nowhere … make it")


def refuse(path: Path, code: int, message: str, *_: object, **__: object) -> None:
    raise OSError(code, message, str(path))


def test_a_disk_that_cannot_be_written_is_named(
    tiny_workspace: Workspace, refused: Refused, monkeypatch: pytest.MonkeyPatch
):
    for code, message, remedy in (
        (errno.EACCES, "Permission denied", "get permission"),
        (errno.EROFS, "Read-only file system", "another disk"),
        (errno.ENOSPC, "No space left on device", "free space"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "mkdir", partialmethod(refuse, code, message))
            refused(f"pretrain --workspace {tiny_workspace.root}", f"{tiny_workspace.root} … {message} … {remedy}")
    (tiny_workspace.root / "models").write_text("in the way")
    refused(f"pretrain --workspace {tiny_workspace.root}", "models … move")
