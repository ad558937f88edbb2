"""What the assets of one study share: partitions, names, code versions, and the list of all steps.

Partition keys come from params.yaml (`cells`), never typed twice. Seasons are dynamic partitions, since new ones
come; lengths are fixed by the study.
"""

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import product
from types import SimpleNamespace

import dagster as dg

from stcln.errors import BadInput
from stcln.stages import evaluate_stage, finetune_stage, name_of, of, tracked
from stcln.study import Study
from stcln.workspace import Workspace, code_digest

OWNERS = ["team:crop-mapping"]
SEASONS = "season"
"""Name of the dynamic partitions."""


@dataclass(frozen=True)
class Step:
    """One asset partition and the stage that makes it.

    Attributes:
        stage: Its name in dvc.yaml.
        asset: The asset's key.
        partition: The partition's key (`2018`, or `full|2018`: dimensions stand in the order of their names); None
            without.
        keys: The season, length and arm, or the variant, it belongs to, as far as it has them.
    """

    stage: str
    asset: dg.AssetKey
    partition: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.asset.to_user_string() + (f" [{self.partition}]" if self.partition else "")


@dataclass(frozen=True)
class Plan:
    """The study of a workspace, as assets see it."""

    workspace: Workspace

    @property
    def study(self) -> Study:
        """The study in params.yaml."""
        return self.workspace.study

    @cached_property
    def season(self) -> dg.DynamicPartitionsDefinition:
        """A partition a season."""
        return dg.DynamicPartitionsDefinition(name=SEASONS)

    @cached_property
    def cell(self) -> dg.MultiPartitionsDefinition:
        """A partition a season and length; the arm is the asset's."""
        lengths = dg.StaticPartitionsDefinition(list(self.study.cells.length))
        return dg.MultiPartitionsDefinition({"season": self.season, "length": lengths})

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants of the study's ablation; none without one."""
        return tuple(self.study.ablation.variants if self.study.ablation else ())

    def code_version(self, stage: str, arm: str = "") -> str:
        """What makes an asset stale when it is edited: the digest of the code its stage runs and of its parameters."""
        study = self.study
        entry = of(study)[stage]
        grid = product(study.cells.length, self.variants or [""])
        keys = [{"arm": arm, "season": "", "length": length, "variant": variant} for length, variant in grid]
        pretrain = SimpleNamespace(length=study.pretrain.length)
        names = {name.format(**key, pretrain=pretrain) for name in tracked(entry, study) for key in keys}
        values = study.model_dump(mode="json")
        params = {name: reduce(operator.getitem, name.split("."), values) for name in sorted(names)}
        return hashlib.md5(f"{code_digest(entry.verb)} {json.dumps(params)}".encode()).hexdigest()[:12]

    def steps(self) -> list[Step]:
        """Every step of the study in DVC's order, in which each stands behind all it reads."""
        cells, study = self.study.cells, self.study
        steps = [Step(name_of("fetch"), dg.AssetKey("raw_archive"))]
        store = dg.AssetKey("season_store")
        steps += [Step(name_of("prepare", season=s), store, s, {"season": s}) for s in cells.season]
        steps += [Step(name_of("pretrain"), dg.AssetKey("pretrained_encoder"))]
        drift = dg.AssetKey("season_drift")
        steps += [Step(name_of("drift", season=s), drift, s, {"season": s}) for s in cells.season]
        for family, stage_of in (("finetuned", finetune_stage), ("evaluation", evaluate_stage)):
            for arms in (cells.scratch, cells.pretrained):
                for season, length, arm in product(cells.season, cells.length, arms):
                    key, stage = dg.AssetKey(family_name(family, arm)), stage_of(study, arm)
                    keys = {"season": season, "length": length, "arm": arm}
                    steps.append(Step(name_of(stage, **keys), key, cell_key(season, length), keys))
        key = dg.AssetKey("ablation")
        steps += [Step(name_of("ablate", variant=v), key, v, {"variant": v}) for v in self.variants]
        steps += [Step(name_of("report"), dg.AssetKey("cross_year_report"))]
        return [*steps, Step(name_of("export"), dg.AssetKey("challenger_onnx"))]


def family_name(family: str, arm: str) -> str:
    """The name of an arm's asset: `finetuned_pretrained_2pct` for the arm `pretrained-2pct`.

    Raises:
        BadInput: The arm's name would not be the only one to give this name.
    """
    if "_" in arm and "-" in arm:
        raise BadInput(
            "params.yaml, field arms", f"{arm!r} mixes - and _", "use one of the two: asset names know only _"
        )
    return f"{family}_{arm.replace('-', '_')}"


def cell_key(season: str, length: str) -> str:
    """The partition key of a cell."""
    return dg.MultiPartitionKey({"length": length, "season": season})


def cell_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Mapping[str, str]:
    """The season and length of the partition that is being materialised."""
    length, _, season = context.partition_key.partition("|")
    return {"season": season, "length": length}
