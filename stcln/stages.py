"""The stages of the pipeline: one table from which dvc.yaml is rendered and every step's lineage is written."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from stcln import lineage
from stcln.errors import BadInput
from stcln.study import Study
from stcln.workspace import BASE, CODE, Workspace, code_digest

SEASON = ("season",)
CELL = ("season", "length", "arm")


@dataclass(frozen=True)
class Stage:
    """One verb over a grid of keys.

    Attributes:
        verb: The verb of `python -m stcln`.
        over: Names of the keys the stage is repeated over.
        arms: The list in `cells` whose arms it serves, where `arm` is a key.
        params: Fields of params.yaml it depends on; `{arm}` and `{length}` stand for the keys.
        reads: Workspace paths it reads; `{pretrain.seasons}` stands for each of them.
        writes: The one directory it writes.
        idle: Fields under `params` that shape no byte of the output, and so are not in its lineage: what follows
            stands when they change.
    """

    verb: str
    over: tuple[str, ...]
    params: tuple[str, ...]
    reads: tuple[str, ...]
    writes: str
    arms: str = ""
    idle: tuple[str, ...] = ()


SOURCE = ("dataset.source", "dataset.files", "dataset.linked", "dataset.only")
ARCHIVE = (*SOURCE, "dataset.layout", "dataset.root", "dataset.season_start")
IN_PLACE = {"cache": False, "persist": True}  # hashed, not copied; DVC's run-cache copies all that does not persist
MODEL = "models/finetuned/{season}/{length}/{arm}"
FINETUNE = ("seed", "splits", "lengths.{length}", "arms.{arm}", "model", "finetune", "method", "compute")
EVALUATE = ("splits", "cells.season", "method", "compute")
SCORES = "reports/cells/{season}/{length}/{arm}"
ABLATION = ("season", "length", "seeds", "variants.{variant}")

STAGES: dict[str, Stage] = {
    "fetch": Stage("fetch", (), ("seed", "cells.season", *ARCHIVE, "simulation"), (), "data/raw"),
    "prepare": Stage(
        "prepare", SEASON, ("dataset", "splits", "method.lists"), ("data/raw",), "data/seasons/{season}.zarr",
        idle=("dataset.source", "dataset.files", "dataset.linked", "dataset.max_rejected", "dataset.max_absent"),
    ),
    "pretrain": Stage(
        "pretrain", (), ("seed", "splits", "lengths.{pretrain.length}", "model", "pretrain", "method", "compute"),
        ("data/seasons/{pretrain.seasons}.zarr",), "models/pretrained",
    ),
    "drift": Stage(
        "drift", SEASON,
        ("seed", "splits", "dataset.ignore", "cells.season", "lengths.{pretrain.length}", "pretrain", "method",
         "compute", "drift"),
        ("data/seasons", "models/pretrained"), "reports/drift/{season}",
    ),
    "scratch": Stage("finetune", CELL, FINETUNE, ("data/seasons/{season}.zarr",), MODEL, arms="scratch"),
    "finetune": Stage(
        "finetune", CELL, FINETUNE, ("data/seasons/{season}.zarr", "models/pretrained"), MODEL, arms="pretrained"
    ),
    "evaluate-scratch": Stage("evaluate", CELL, EVALUATE, (MODEL, "data/seasons"), SCORES, arms="scratch"),
    "evaluate": Stage("evaluate", CELL, EVALUATE, (MODEL, "data/seasons"), SCORES, arms="pretrained"),
    "ablate": Stage(
        "ablate", ("variant",),
        ("seed", "splits", "cells", "lengths", "arms", "model", "pretrain", "finetune", "method", "compute",
         *(f"ablation.{field}" for field in ABLATION)),
        ("data/seasons",), "reports/ablation/{variant}",
    ),
    "report": Stage(
        "report", (),
        ("name", "title", "seed", "dataset", "cells", "lengths", "arms", "method", "pretrain", "finetune"),
        ("reports/cells", "models/pretrained", "models/finetuned", "data/seasons"), "reports/study",
    ),
    "export": Stage(
        "export", (),
        ("name", "title", "dataset", "splits", "cells", "lengths", "arms", "method", "pretrain", "champion"),
        ("reports/cells", "models/finetuned", "data/seasons"), "models/challenger",
    ),
}  # fmt: skip

HEADER = """\
# One stage is one verb of `python -m stcln` and one Dagster asset. The grids come from `cells` in params.yaml.
# Rendered from stcln/stages.py by `python -m stcln new`; a test holds them equal.
"""


def dvc_yaml(study: Study, *, checkout: bool) -> str:
    """The text of dvc.yaml for a study.

    Args:
        study: Only the number of its pre-training seasons matters, whether its source is on this machine (DVC then
            hashes data/raw but does not copy it into its cache), and whether it never grows (it is then fetched once).
            All else DVC takes from params.yaml, but for the names of an ablation's variants: a mapping there, and a
            list in dvc.yaml.
        checkout: True for this repository, where the code a stage runs is a file dependency; false for a workspace
            elsewhere, where it is the installed package's digest in code.yaml.
    """
    stages = {name: _entry(stage, study, checkout) for name, stage in of(study).items()}
    return HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120)


def of(study: Study) -> dict[str, Stage]:
    """The stages of a study: `ablate` only where it has an ablation, which its report then reads.

    `drift` reads the encoder only where an arm starts from it.
    """
    found = dict(STAGES)
    if not study.cells.pretrained:
        found["drift"] = replace(found["drift"], reads=("data/seasons",))
    if study.ablation is None:
        del found["ablate"]
        return found
    report = STAGES["report"]
    more = replace(report, params=(*report.params, "ablation"), reads=(*report.reads, "reports/ablation"))
    return found | {"report": more}


def render(workspace: Workspace) -> None:
    """Write dvc.yaml again for a study that has become a trial, or is none any more; where there is one."""
    if (path := workspace.root / "dvc.yaml").exists():
        path.write_text(dvc_yaml(workspace.study, checkout=not (workspace.root / "code.yaml").exists()))


def code_yaml() -> str:
    """The text of code.yaml: the digest of the code of every verb, as installed."""
    note = "# Digests of the installed stcln, by verb. `python -m stcln new . --update` takes over another version.\n"
    return note + yaml.safe_dump({verb: code_digest(verb) for verb in CODE})


def name_of(stage: str, **keys: str) -> str:
    """DVC's name of a stage: `finetune@2017-d12-pretrained`."""
    over = STAGES[stage].over
    return f"{stage}@{'-'.join(keys[key] for key in over)}" if over else stage


def finetune_stage(study: Study, arm: str) -> str:
    """The stage that trains an arm."""
    return "scratch" if arm in study.cells.scratch else "finetune"


def evaluate_stage(study: Study, arm: str) -> str:
    """The stage that scores an arm."""
    return "evaluate-scratch" if arm in study.cells.scratch else "evaluate"


def check(workspace: Workspace, stage: str, **keys: str) -> None:
    """Refuse to run a stage that the study, dvc.yaml or code.yaml does not describe as it is.

    Raises:
        BadInput: A key is not among the study's cells; dvc.yaml asks for other inputs, fields or commands than this
            version of stcln would; code.yaml pins another version of the code.
    """
    study, entry = workspace.study, of(workspace.study).get(stage, STAGES[stage])
    _check_keys(workspace, entry, keys)
    remedy = "run `python -m stcln new . --update` to take over this version"
    pinned = workspace.root / "code.yaml"
    if pinned.exists() and _mapping(pinned, remedy).get(entry.verb) != code_digest(entry.verb):
        raise BadInput(
            f"{pinned}, field {entry.verb}", "the installed stcln is not the one this workspace was made with", remedy
        )
    pipeline = workspace.root / "dvc.yaml"
    if pipeline.exists():
        asked = _entry(entry, study, checkout=not pinned.exists())
        found = _mapping(pipeline, remedy, "stages", stage)
        missing = [it for key in ("deps", "params") for it in asked[key] if it not in found.get(key, [])]
        if found.get("matrix", {}).get("variant") != asked.get("matrix", {}).get("variant"):
            missing.append(f"variants {list(study.ablation.variants if study.ablation else ())}")
        if missing or found.get("cmd") != asked["cmd"]:
            problem = f"does not name {missing[0]}" if missing else f"has the command {found.get('cmd')!r}"
            raise BadInput(f"{pipeline}, stage {stage}", problem, remedy)
        if found.get("outs") != asked["outs"]:
            raise BadInput(f"{pipeline}, stage {stage}", f"has outs {found.get('outs')}, not {asked['outs']}", remedy)


def _check_keys(workspace: Workspace, entry: Stage, keys: Mapping[str, str]) -> None:
    """Refuse a key that the study does not list."""
    study = workspace.study
    for key in entry.over:
        field = "cells.scratch or cells.pretrained" if key == "arm" else f"cells.{key}"
        if key == "variant":
            field, named = "ablation.variants", tuple(study.ablation.variants if study.ablation else ())
            known = named
        else:
            named, known = getattr(study.cells, key), getattr(study.cells, entry.arms if key == "arm" else key)
        if keys[key] not in known:
            where = f"{workspace.root / 'params.yaml'}, field {field}"
            problem = f"no {key} {keys[key]!r} among {list(named)}"
            raise BadInput(where, problem, "name one of these, or add it to the study")


def _mapping(path: Path, remedy: str, *keys: str) -> dict[str, Any]:
    """The mapping under some keys of a YAML file; empty where there is none."""
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(path, f"not YAML: {' '.join(str(error).split())}", remedy) from None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def write_lineage(
    directory: Path, workspace: Workspace, stage: str, read: Sequence[Path] | None = None, /, **keys: str
) -> None:
    """Write `lineage.json` of a stage's output: the inputs and parameters that the table above gives it.

    Args:
        directory: The output, whole but for this file.
        workspace: The study's.
        stage: Its name in the table.
        read: In place of the table's inputs, those parts of them that were read: an input that others share, such as
            the archive, may then grow without a change to this output.
        keys: The stage's.
    """
    made = _made(workspace, stage, keys)
    if read is not None:
        made["inputs"] = {path.relative_to(workspace.root).as_posix(): path for path in read}
    lineage.write(directory, **made)


def inputs(workspace: Workspace, stage: str, **keys: str) -> list[Path]:
    """What the table says that a stage reads, as far as it is there."""
    return [path for path in _made(workspace, stage, keys)["inputs"].values() if path.exists()]


def lineage_of(workspace: Workspace, stage: str, **keys: str) -> dict[str, Any]:
    """The same record without the output's own digests: what travels inside ONNX and GeoTIFF files."""
    return lineage.record(**_made(workspace, stage, keys))


def _made(workspace: Workspace, stage: str, keys: Mapping[str, str]) -> dict[str, Any]:
    study = workspace.study
    entry = of(study)[stage]
    fields = _fill(tracked(entry, study), keys, study.pretrain.seasons, study.pretrain.length)
    values = study.model_dump(mode="json")
    reads = _fill(entry.reads, keys, study.pretrain.seasons, study.pretrain.length)
    return {
        "stage": name_of(stage, **keys), "inputs": {path: workspace.root / path for path in reads},
        "params": dict(item for field in fields for item in _recorded(field, values, entry.idle)),
        "verb": entry.verb, "seed": study.seed,
    }  # fmt: skip


def _recorded(field: str, values: Mapping[str, Any], idle: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """A field and its value, or each of its parts that is not idle."""
    value = reduce(operator.getitem, field.split("."), values)
    if any(name.startswith(f"{field}.") for name in idle):
        yield from ((name, part) for key, part in value.items() if (name := f"{field}.{key}") not in idle)
    else:
        yield field, value


def tracked(stage: Stage, study: Study) -> tuple[str, ...]:
    """The fields a stage depends on; a source that never grows is fetched once, whatever is read of it."""
    once = stage.verb == "fetch" and study.dataset.fixed
    return SOURCE if once else stage.params


def _entry(stage: Stage, study: Study, checkout: bool) -> dict[str, Any]:
    keys = {key: f"${{item.{key}}}" for key in stage.over}
    seasons = [f"${{pretrain.seasons[{n}]}}" for n in range(len(study.pretrain.seasons))]
    command = " ".join([f"python -m stcln {stage.verb}", *(f"--{key} {item}" for key, item in keys.items())])
    params: list[Any] = [*_fill(tracked(stage, study), keys, seasons, "${pretrain.length}")]
    reads = _fill(stage.reads, keys, seasons, "")
    if checkout:
        reads += [f"stcln/{part}" for part in (*BASE, *CODE[stage.verb])]
    else:
        params.append({"code.yaml": [stage.verb]})
    grid: dict[str, Any] = {key: f"${{cells.{stage.arms if key == 'arm' else key}}}" for key in stage.over}
    if "variant" in grid and study.ablation:
        grid["variant"] = list(study.ablation.variants)
    entry: dict[str, Any] = {"matrix": grid} if grid else {}
    out = stage.writes.format(**keys)
    outs: list[Any] = [{out: IN_PLACE} if stage.verb == "fetch" and study.dataset.local else out]
    return entry | {"cmd": command, "deps": reads, "params": params, "outs": outs}


def _fill(texts: Sequence[str], keys: Mapping[str, str], seasons: Sequence[str], length: str) -> list[str]:
    """Put the keys into paths and fields; one that names the pre-training seasons is repeated for each of them."""
    return [
        text.format(**keys, pretrain=SimpleNamespace(seasons=season, length=length))
        for text in texts
        for season in (seasons if "{pretrain.seasons}" in text else [""])
    ]
