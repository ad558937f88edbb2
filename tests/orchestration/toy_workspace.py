"""A toy workspace: the real stages, keys and edges, and a script that stands in for the verbs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import yaml

from assets import Plan
from orchestration import study as study_module
from orchestration.ledger import DvcLedger
from orchestration.notify import Addresses
from orchestration.resources import Resources
from stcln.data.store import Header, write
from stcln.data.tile import Tile
from stcln.stages import dvc_yaml
from stcln.study import load_study
from stcln.workspace import Workspace

PARAMS = Path(__file__).with_name("params.yaml")
VALIDATION = {
    "tiles": 3, "listed_ids": 3, "rejected_tiles": 0, "absent_ids": 0, "marks": {"bands": [], "values": []},
    "ndvi": {}, "leaves": {}, "reflectance_range": {}, "distance": {"train": {"adjacent": 0}}, "findings": {},
    "duplicates": {"same_ground": [], "same_images": []}, "trial": None,
}  # fmt: skip


class ToyRunner:
    """Runs the command of dvc.yaml as it stands, in the workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        if subprocess.run([sys.executable, *argv[1:]], cwd=self.root, check=False).returncode:
            raise dg.Failure(f"{argv} failed")
        return {"toy": 1}


class Toy:
    """A toy workspace and what a test does with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.resources = Resources(ledger=DvcLedger(root), runner=ToyRunner(root), notifier=Addresses())

    @property
    def plan(self) -> Plan:
        return Plan(Workspace(self.root))

    @property
    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text()

    def ran(self) -> list[str]:
        """The verbs run since the last call."""
        log = self.root / "runs.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def dvc(self, *words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def dagster(self, instance: dg.DagsterInstance) -> int:
        """Materialise the study; gives the number of runs."""
        plan = self.plan
        return study_module.materialise(plan, plan.steps(), instance, self.resources, lambda line: None)

    def one(self, instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """Materialise one asset partition, as a click in the UI does."""
        study_module.register_seasons(self.plan, instance)
        job = study_module.asset_job(self.plan, self.resources)
        return job.execute_in_process(
            instance=instance, partition_key=partition, asset_selection=[dg.AssetKey(asset)], raise_on_error=False
        )

    def edit(self, old: str, new: str) -> None:
        path = self.root / "params.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def grid(seasons: int, lengths: int, arms: int) -> str:
    """A params.yaml with this many of each; half of the arms, and one at least, start from random weights."""
    params = yaml.safe_load(PARAMS.read_text())
    names = [f"a{number}" for number in range(arms)]
    scratch = (arms + 1) // 2
    params["cells"] = {
        "season": [2018 + number for number in range(seasons)], "length": [f"d{n + 2}" for n in range(lengths)],
        "scratch": names[:scratch], "pretrained": names[scratch:],
    }  # fmt: skip
    params["lengths"] |= {f"d{number + 2}": {"dates": number + 2} for number in range(lengths)}
    params["arms"] = {name: {"labels": 0.05 + number / 100} for number, name in enumerate(names)}
    params["pretrain"]["seasons"] = [2018]
    return yaml.safe_dump(params, sort_keys=False)


def make(root: Path, more: str = "", params: str = PARAMS.read_text()) -> None:
    """Make a toy workspace that has not run; `more` is added to its params.yaml."""
    (root / "template").mkdir(parents=True)
    (root / "params.yaml").write_text(params + more)
    study = load_study(root / "params.yaml")
    shutil.copyfile(Path(__file__).with_name("toy.py"), root / "toy.py")
    stages = yaml.safe_load(dvc_yaml(study, checkout=False))["stages"]
    for stage in stages.values():
        stage["cmd"] = stage["cmd"].replace("python -m stcln", f"{sys.executable} toy.py")
        stage["params"] = [field for field in stage["params"] if isinstance(field, str)]
        stage["deps"] = [*stage["deps"], "toy.py"]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    seasons = study.cells.season
    for season in seasons:
        path = root / f"template/{season}.zarr"
        header = Header(
            season=season, start=study.dataset.start(season), layout="mtlcc", bands=("B04", "B03", "B02"),
            classes=("unknown", "wheat", "maize"), ignore=(0,), simulated=True,
        )  # fmt: skip
        write(
            path,
            [_tile(season, i, split) for i, split in enumerate(("train_fold0", "test_fold0", "eval"))],
            header,
            _trains,
        )
        (path / "validation.json").write_text(json.dumps(VALIDATION))
    byte = np.zeros((4, 4), np.uint8)
    parts = {"truth": byte, "prediction": byte, "confidence": byte, "rgb": np.zeros((4, 4, 3), np.uint8)}
    np.savez(
        root / "template/maps.npz", **{f"{s}/tile/{name}": value for s in seasons for name, value in parts.items()}
    )
    images, hidden = np.full((2, 3, 4, 4), 0.1, np.float32), np.eye(4, dtype=bool)[None].repeat(2, 0)
    np.savez(
        root / "template/sample.npz", images=images, reconstruction=images, hidden=hidden, valid=np.ones_like(hidden),
        dates=np.arange(2), tile="1",
    )  # fmt: skip
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)


def _tile(season: str, number: int, split: str) -> Tile:
    random = np.random.default_rng(number)
    return Tile(
        id=str(number),
        split=split,
        reflectance=random.integers(0, 5000, (3, 3, 4, 4), dtype=np.int16),
        dates=np.array([f"{season}-0{month}-01" for month in (4, 5, 6)], "datetime64[D]"),
        valid=np.ones((3, 4, 4), bool),
        labels=random.integers(1, 3, (4, 4)).astype(np.uint8),
        crs="EPSG:32632",
        transform=(10.0, 0.0, 40.0 * number, 0.0, -10.0, 0.0),
    )


def _trains(tile: Tile) -> bool:
    return tile.split == "train_fold0"
