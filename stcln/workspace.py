"""A workspace: the directory of one study. Where every step reads and writes, and what code each stage runs."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stcln.study import Study, load_study

PACKAGE = Path(__file__).parent
BASE = ("cores.py", "lineage.py", "storage.py")
READ = ("data/splits.py", "data/store", "data/tile.py")
SEE = (*READ, "data/ahead.py", "data/lengths.py", "data/samples.py", "data/series.py", "model")
TRAIN = (*SEE, "data/loader.py", "training")

# The parts of this package that shape a verb's output; an edit there makes the stage stale. A test holds that nothing
# a verb imports is missing.
CODE: dict[str, tuple[str, ...]] = {
    "fetch": (
        "data/archive.py", "data/fetch", "data/only.py", "data/readers/__init__.py", "data/readers/pastis_files.py",
        "data/readers/reading.py", "data/readers/tfrecord.py", "data/simulate", "data/tile.py",
    ),
    "prepare": (*READ, "data/archive.py", "data/only.py", "data/pool.py", "data/prepare", "data/readers"),
    "pretrain": TRAIN,
    "finetune": TRAIN,
    "evaluate": (*SEE, "evaluate"),
    "ablate": (*TRAIN, "ablation", "evaluate", "meter.py", "runs.py"),
    "drift": (*SEE, "drift"),
    "report": (*READ, "data/lengths.py", "meter.py", "palette.py", "report", "runs.py", "spread.py"),
    "export": ("export.py", "model", "model_card.py", "palette.py", "spread.py"),
    "predict": (
        *READ, "data/lengths.py", "data/readers/__init__.py", "data/readers/blocks.py", "data/readers/cube.py",
        "data/readers/reading.py", "geotiff.py", "model", "palette.py", "predict.py",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Workspace:
    """Paths of a workspace. All are below `root`; steps write nowhere else."""

    root: Path

    @cached_property
    def study(self) -> Study:
        """The study in params.yaml."""
        return load_study(self.root / "params.yaml")

    @property
    def raw(self) -> Path:
        """The archive as fetched."""
        return self.root / "data/raw"

    @property
    def seasons(self) -> Path:
        """The directory of all season stores."""
        return self.root / "data/seasons"

    def season(self, season: str) -> Path:
        """A season's store."""
        return self.seasons / f"{season}.zarr"

    @property
    def pretrained(self) -> Path:
        """The pre-trained encoder."""
        return self.root / "models/pretrained"

    def finetuned(self, season: str, length: str, arm: str) -> Path:
        """A cell's models, a directory a seed."""
        return self.root / "models/finetuned" / season / length / arm

    def cell(self, season: str, length: str, arm: str) -> Path:
        """A cell's scores."""
        return self.root / "reports/cells" / season / length / arm

    def ablation(self, variant: str) -> Path:
        """A variant's scores."""
        return self.root / "reports/ablation" / variant

    def drift(self, season: str) -> Path:
        """How far a season lies from those trained on."""
        return self.root / "reports/drift" / season

    @property
    def report(self) -> Path:
        """The study's report."""
        return self.root / "reports/study"

    @property
    def challenger(self) -> Path:
        """The study's best model, exported: what may become champion."""
        return self.root / "models/challenger"

    @property
    def champion(self) -> Path:
        """The model that is served, put there by a decision and by no stage."""
        return self.root / "models/champion"

    def resume(self, stage: str) -> Path:
        """Resume state of a stage; outside its output, which DVC deletes before a run."""
        return self.root / ".stcln/resume" / stage

    def lock(self, stage: str) -> Path:
        """The file that the process which runs a stage holds locked."""
        return self.root / ".stcln/locks" / stage

    def run_record(self, stage: str) -> Path:
        """What differs between equal runs: times, device, versions."""
        return self.root / ".stcln/runs" / f"{stage}.json"


def code_digest(verb: str) -> str:
    """Digest of the code a verb runs: the sorted relative paths and bytes of its Python files."""
    paths = [PACKAGE / part for part in (*BASE, *CODE[verb])]
    files = sorted({f for path in paths for f in (path.rglob("*.py") if path.is_dir() else [path])})
    md5 = hashlib.md5()
    for file in files:
        md5.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return md5.hexdigest()
