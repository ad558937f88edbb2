"""Where the runs of variants are made: inner workspaces on the season stores that stand, and every equal step once.

All of it lies in `.stcln/ablation`, outside every output, and may be deleted at any time: it is then computed again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stcln import runs
from stcln.evaluate import evaluate
from stcln.events import Reporter, Within
from stcln.model.checkpoint import CARD
from stcln.stages import evaluate_stage, finetune_stage, lineage_of
from stcln.storage import read_json, write_json
from stcln.study import Method, Study
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

PLAIN = ".study"  # in place of a variant's name, none of which begins so
SCORING = ("excluded", "test_window")  # switches that no training reads: what differs in them alone is trained once


@dataclass(frozen=True)
class Bench:
    """One run of a variant. Each of its steps gives the directory of its output.

    Attributes:
        outer: The study's workspace.
        variant: The variant's name.
        study: Its study with the run's seed, of one fine-tuning a cell.
        reporter: Is told what the steps tell.
    """

    outer: Workspace
    variant: str
    study: Study
    reporter: Reporter

    @classmethod
    def of(cls, outer: Workspace, variant: str, index: int, reporter: Reporter) -> "Bench":
        """Run `index` of a variant, or of the study itself (`PLAIN`)."""
        study = outer.study if variant == PLAIN else outer.study.variant(variant)
        finetune = study.finetune.model_copy(update={"seeds": 1})
        run = {"seed": study.seed + index, "finetune": finetune, "ablation": None}
        return cls(outer, variant, study.model_copy(update=run), reporter)

    def encoder(self) -> Path:
        """Pre-train."""
        inner = self._training
        return self._once(inner, inner.pretrained, pretrain, "pretrain")

    def models(self, **cell: str) -> Path:
        """Fine-tune a cell; an arm that starts from the encoder needs `encoder` first."""
        inner, stage = self._training, finetune_stage(self.study, cell["arm"])
        return self._once(inner, inner.finetuned(**cell), finetune, stage, **cell)

    def scores(self, **cell: str) -> Path:
        """Test a cell's models."""
        inner, stage = self._testing, evaluate_stage(self.study, cell["arm"])
        if inner is not self._training:
            _rename_method(self._training.finetuned(**cell), inner.finetuned(**cell), self.study.method)
        return self._once(inner, inner.cell(**cell), evaluate, stage, **cell)

    @cached_property
    def _training(self) -> Workspace:
        """Where it is trained, by a study whose switches of scoring stand at their default."""
        ours = {name: getattr(Method(), name) for name in SCORING}
        method = self.study.method.model_copy(update=ours)
        return self._workspace("trained", self.study.model_copy(update={"method": method}))

    @cached_property
    def _testing(self) -> Workspace:
        """Where it is tested: there too, unless a switch of scoring differs."""
        if self._training.study.method == self.study.method:
            return self._training
        return self._workspace("scored", self.study)

    def _workspace(self, part: str, study: Study) -> Workspace:
        root = self._home / "runs" / self.variant / f"seed-{study.seed}" / part
        (root / "data").mkdir(parents=True, exist_ok=True)
        (root / "params.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
        stores = root / "data/seasons"
        stores.unlink(missing_ok=True)
        stores.symlink_to(self.outer.seasons.resolve())
        return Workspace(root)

    def _once(self, inner: Workspace, target: Path, step: Callable[..., Any], stage: str, **keys: str) -> Path:
        """Run a stage by its function in an inner workspace, or link the output of any run that has made the same one.

        The same is what equals in inputs, parameters, seed and code, as the stage's lineage has them. Of several
        processes that want it one makes it, and the others wait.
        """
        record = lineage_of(inner, stage, **keys)
        identity = hashlib.md5(json.dumps(record, sort_keys=True).encode()).hexdigest()
        made = self._home / "made" / identity
        with runs.alone(self.outer, f"ablation-{identity}", wait=True):
            if target.is_symlink():
                target.unlink()
            if not made.exists():
                step(inner, **keys, reporter=Within(self.reporter, " ".join([step.__name__, *keys.values()])))
                made.parent.mkdir(exist_ok=True)
                target.rename(made)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(made)
        return target

    @property
    def _home(self) -> Path:
        return self.outer.root.resolve() / ".stcln/ablation"


def _rename_method(models: Path, target: Path, method: Method) -> None:
    """Copy a cell's models and let their cards name the method that they are to be scored by."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(models, target)
    for card in target.rglob(CARD):
        write_json(card, read_json(card) | {"method": method.model_dump()})
