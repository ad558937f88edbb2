"""What made what: a record in every output directory, and the walk from a number or a map down to the archive.

A record holds only what is the same at every run (DVC hashes it); times and machines are in `.stcln/runs`, not here.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.text import Text
from rich.tree import Tree

from stcln import storage
from stcln.errors import BadInput
from stcln.study import load_study
from stcln.workspace import CODE, Workspace, code_digest

NAME = "lineage.json"
TAG = "stcln_lineage"  # the same record as JSON, inside a GeoTIFF's tags and an ONNX file's metadata
FIELDS = {"stage", "verb", "inputs", "params", "code", "seed", "outputs"}


def record(
    stage: str, inputs: Mapping[str, Path], params: Mapping[str, Any], verb: str, seed: int | None
) -> dict[str, Any]:
    """The record of an output without its own digests: what travels inside ONNX and GeoTIFF files.

    Args:
        stage: The step's name in dvc.yaml, `finetune@2017-d12-pretrained`.
        inputs: The files and directories read, by their path relative to the workspace (posix).
        params: The parameters used, by dotted name in params.yaml (`finetune`, `lengths.d12`), for a walk to compare.
        verb: The verb whose code ran, a key of `workspace.CODE`.
        seed: The first seed of the step's draws, or None if it draws nothing.
    """
    made = {"stage": stage, "verb": verb, "params": dict(params), "code": code_digest(verb), "seed": seed}
    return {**made, "inputs": {key: storage.digest(path) for key, path in inputs.items()}, "outputs": {}}


def write(
    directory: Path, stage: str, inputs: Mapping[str, Path], params: Mapping[str, Any], verb: str, seed: int | None
) -> None:
    """Write `lineage.json` as the last file of an output directory: `record` and the digests of what lies beside it."""
    outputs = {path.name: storage.digest(path) for path in directory.iterdir() if path.name != NAME}
    storage.write_json(directory / NAME, {**record(stage, inputs, params, verb, seed), "outputs": outputs})


@dataclass(frozen=True)
class Node:
    """One output (or the archive) in the walk.

    Attributes:
        path: Relative to the workspace, posix.
        record: Its lineage record; None for what no step made.
        problems: What no longer matches, a sentence each.
        inputs: The outputs it was made from.
    """

    path: str
    record: Mapping[str, Any] | None
    problems: tuple[str, ...]
    inputs: tuple["Node", ...]


@dataclass(frozen=True)
class Lineage:
    """A walk's result: the output asked for, and everything below it."""

    node: Node

    @property
    def nodes(self) -> list[Node]:
        """Every output once, each behind all it was made from."""
        return list({node.path: node for node in _descend(self.node)}.values())

    @property
    def problems(self) -> list[str]:
        """Every mismatch, once."""
        return list(dict.fromkeys(problem for node in self.nodes for problem in node.problems))

    @property
    def matches(self) -> bool:
        """Whether data, parameters and code are those recorded."""
        return not self.problems


def as_json(found: Lineage) -> dict[str, Any]:
    """The walk as JSON values; an output shared by many consumers stands once, under `nodes`."""
    nodes = {node.path: {"problems": list(node.problems), **(node.record or {"inputs": {}})} for node in found.nodes}
    return {"path": found.node.path, "matches": found.matches, "problems": found.problems, "nodes": nodes}


def render(found: Lineage) -> Tree:
    """The walk as a tree for rich's console; a shared output is drawn in full once."""
    return _draw(found.node, Tree(_label(found.node)), {found.node.path})


def trace(path: Path, workspace: Workspace) -> Lineage:
    """Walk from a report, model, season store, ONNX file or map down to the archive, and compare all with what stands.

    Raises:
        BadInput: `path` is missing or carries no lineage, or a record on the way cannot be read.
    """
    if not path.exists():
        raise BadInput(path, "nothing is here", "give the path of a report, model, season store, ONNX file or map")
    node = _Walk(workspace.root.resolve()).node(path.resolve())
    if node.record is None:
        raise BadInput(path, f"no {NAME} here or above", "give the path of an output that a step wrote")
    return Lineage(node)


class _Walk:
    """Visits every output and hashes every file once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[Path, str] = {}
        self.nodes: dict[Path, Node] = {}
        params = root / "params.yaml"
        self.study = load_study(params).model_dump(mode="json") if params.exists() else {}

    def key(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()

    def node(self, path: Path) -> Node:
        home, found = self.find(path)
        if home not in self.nodes:
            self.nodes[home] = self.visit(home, found)
        return self.nodes[home]

    def find(self, path: Path) -> tuple[Path, dict[str, Any] | None]:
        """The output that `path` is or lies in, and its record."""
        if path.suffix == ".tif":
            return path, _checked(path, _tiff_tag(path))
        for home in (path, *path.parents):
            if (home / NAME).is_file():
                return home, _checked(home / NAME, storage.read_json(home / NAME))
            if home == self.root:
                break
        return path, _checked(path, _onnx_tag(path)) if path.suffix == ".onnx" else None

    def visit(self, home: Path, found: dict[str, Any] | None) -> Node:
        if found is None:  # the archive, or a directory of outputs such as data/seasons
            homes = sorted(file.parent for file in home.rglob(NAME)) if home.is_dir() else []
            return Node(self.key(home), None, (), tuple(self.node(below) for below in homes))
        inputs = {key: Path(os.path.normpath(self.root / key)) for key in found["inputs"]}
        problems = [
            *self.outputs(home, found["outputs"]),
            *(p for key, path in inputs.items() for p in self.changed(key, path, found["inputs"][key])),
            *_params(self.key(home), found["params"], self.study),
            *_code(self.key(home), found["verb"], found["code"]),
        ]
        below = {id(node): node for node in (self.node(path) for path in inputs.values() if storage.exists(path))}
        return Node(self.key(home), found, tuple(problems), tuple(below.values()))

    def outputs(self, home: Path, recorded: Mapping[str, str]) -> Iterator[str]:
        for name, was in recorded.items():
            yield from self.changed(self.key(home / name), home / name, was)
        if home.is_dir():
            for path in sorted(home.iterdir()):
                if path.name not in recorded and path.name != NAME:
                    yield f"{self.key(path)} is not part of what its step wrote"

    def changed(self, key: str, path: Path, was: str) -> Iterator[str]:
        if not storage.exists(path):
            yield f"{key} is missing (recorded {_short(was)})"
        elif (now := storage.digest(path, self.known)) != was:
            yield f"{key} changed since: recorded {_short(was)}, now {_short(now)}"


def _params(where: str, recorded: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    for name, was in recorded.items() if study else ():
        now: Any = study
        for part in name.split("."):
            now = now.get(part) if isinstance(now, Mapping) else None
        yield from _differences(f"{where}: made with {name}", was, now)


def _differences(made: str, was: Any, now: Any) -> Iterator[str]:
    """What params.yaml now gives another value, down to the single field."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for field in {**was, **now}:
            yield from _differences(f"{made}.{field}", was.get(field), now.get(field))
    elif was != now:
        yield f"{made} = {_scalar(was)}, params.yaml now says {_scalar(now)}"


def _code(where: str, verb: str, was: str) -> Iterator[str]:
    if verb not in CODE:
        yield f"{where}: made by `{verb}`, which this version of the code does not have"
    elif (now := code_digest(verb)) != was:
        yield f"{where}: code of `{verb}` changed since: recorded {_short(was)}, now {_short(now)}"


def _checked(where: Path, found: Any) -> dict[str, Any]:
    if absent := sorted(FIELDS - set(found) if isinstance(found, dict) else FIELDS):
        raise BadInput(where, f"the lineage record lacks {', '.join(absent)}", "run the step that wrote it again")
    return dict(found)


def _tiff_tag(path: Path) -> Any:
    import rasterio  # only a walk that starts at a map needs it

    try:
        with rasterio.open(path) as image:
            return json.loads(image.tags().get(TAG, "{}"))
    except rasterio.errors.RasterioIOError:
        raise BadInput(path, "not a GeoTIFF", "give a map that `predict` wrote") from None


def _onnx_tag(path: Path) -> Any:
    try:
        import onnx  # an optional extra; only an ONNX file away from its directory needs it
    except ImportError:
        raise BadInput(path, "reading an ONNX file needs onnx", "pip install 'stcln[onnx]'") from None
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has kinds of its own
        raise BadInput(path, f"not an ONNX file: {error}", "give one that `export` wrote") from None
    return json.loads(next((entry.value for entry in model.metadata_props if entry.key == TAG), "{}"))


def _descend(node: Node) -> Iterator[Node]:
    for below in node.inputs:
        yield from _descend(below)
    yield node


def _draw(node: Node, branch: Tree, seen: set[str]) -> Tree:
    for problem in node.problems:
        branch.add(Text(f"✗ {problem}", style="bold red"))
    for below in node.inputs:
        if below.path in seen:
            branch.add(Text(f"{below.path}  (as above)", style="dim"))
        else:
            seen.add(below.path)
            _draw(below, branch.add(_label(below)), seen)
    return branch


def _label(node: Node) -> Text:
    if node.record is None:
        return Text.assemble((node.path, "bold"), "" if node.inputs else "  (no step made it)")
    return Text.assemble((node.path, "bold"), f"  {node.record['stage']}  code {_short(node.record['code'])}")


def _short(digest: str) -> str:
    return f"{digest[:8]}.."


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
