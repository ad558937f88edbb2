"""Making a result again from its lineage, in a clean directory, to see whether the same bytes come out."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stcln import stages, storage
from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.lineage import NAME, Node, trace
from stcln.verbs import step
from stcln.workspace import CODE, Workspace, code_digest

CHAMPION = "models/champion"


@dataclass(frozen=True)
class Rebuilt:
    """An output that was made again.

    Attributes:
        path: Relative to the workspace, posix.
        stage: What made it, `finetune@2018-d12-pretrained`.
        differences: What is not as recorded, a sentence each.
    """

    path: str
    stage: str
    differences: tuple[str, ...]


def rebuild(path: Path, workspace: Workspace, reporter: Reporter) -> tuple[Path, list[Rebuilt]]:
    """Run every stage again that led from the archive to a result, with the parameters recorded, and compare digests.

    The archive is the workspace's, all else is made below `.stcln/rebuild`; nothing outside is written. A rebuild that
    was broken off goes on where it was. Which runs repeat bit for bit stands in docs/training.md.

    Args:
        path: A store, model, scores or report of the workspace, or an ONNX file of it.
        workspace: The workspace.
        reporter: Is told every stage.

    Returns:
        The directory, and what was made in it, upstream first.

    Raises:
        BadInput: The result has no lineage, is no stage's output, was made by other code than this or from another
            archive; and what a stage refuses.
    """
    found = trace(path, workspace)
    made = [node for node in found.nodes if node.record and node.record["verb"] != "fetch"]
    if not made:
        raise BadInput(path, "the archive, which was made from nothing here", "name what was made from it")
    for node in made:
        _check(node, workspace)
    clean = Workspace(_directory(workspace, found.node))
    for node in found.nodes:
        if node not in made and not node.inputs:
            _link(workspace.root.resolve() / node.path, clean.root / node.path)
    results = []
    for done, node in enumerate(made, 1):
        if not (_made(node, clean) / NAME).exists():
            _run(node, workspace, clean, reporter)
        results.append(Rebuilt(node.path, _record(node)["stage"], tuple(_differences(node, clean))))
        told = "differs from" if results[-1].differences else "the same as"
        reporter.note(f"{done}/{len(made)} {results[-1].stage}: {told} recorded")
    return clean.root, results


def forget(clean: Path) -> None:
    """Delete a rebuild's directory; the archive, which is linked into it, stays."""
    shutil.rmtree(clean)


def _record(node: Node) -> Mapping[str, Any]:
    assert node.record is not None
    return node.record


def _check(node: Node, workspace: Workspace) -> None:
    """Refuse what could not come out the same."""
    record, where = _record(node), workspace.root / node.path
    if record["stage"].partition("@")[0] not in stages.STAGES:
        remedy = "rebuild its model, and predict with that"
        raise BadInput(where, f"made by `{record['verb']}`, which is no stage of the study", remedy)
    if record["verb"] not in CODE or record["code"] != code_digest(record["verb"]):
        remedy = "check out the revision of stcln that made it, and rebuild there"
        raise BadInput(where, f"made by other code of `{record['verb']}` than this", remedy)
    for key, was in record["inputs"].items():
        read = workspace.root / key
        if not storage.exists(read):
            raise BadInput(read, f"missing, and {node.path} was made from it", "`dvc pull` it")
        if read.is_relative_to(workspace.raw) and storage.digest(read) != was:
            raise BadInput(read, f"not the archive that {node.path} was made from", "`dvc pull` it")


def _directory(workspace: Workspace, node: Node) -> Path:
    text = json.dumps([node.path, node.record], sort_keys=True)
    clean = workspace.root.resolve() / ".stcln/rebuild" / hashlib.md5(text.encode()).hexdigest()[:12]
    clean.mkdir(parents=True, exist_ok=True)
    return clean


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source)


def _run(node: Node, workspace: Workspace, clean: Workspace, reporter: Reporter) -> None:
    """Run a node's stage in the clean workspace: the study of now, with all that the record says of then."""
    record = _record(node)
    values = workspace.study.model_dump(mode="json")
    for name, value in record["params"].items():
        *parents, last = name.split(".")
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    values["seed"] = record["seed"]
    (clean.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    place = Workspace(clean.root)  # reads the study anew
    step(record["verb"])(place, *_keys(node).values(), reporter)


def _made(node: Node, clean: Workspace) -> Path:
    """Where a node's stage writes in the clean workspace; the champion is a challenger of some time."""
    return clean.challenger if node.path == CHAMPION else clean.root / node.path


def _keys(node: Node) -> dict[str, str]:
    """The season, length and arm, or the variant, that an output's path names."""
    writes = stages.STAGES[_record(node)["stage"].partition("@")[0]].writes
    if node.path == CHAMPION:
        return {}
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(writes))
    match = re.fullmatch(pattern, node.path)
    if match is None:
        raise BadInput(node.path, f"not where its stage writes, {writes}", "rebuild it in the workspace that made it")
    return match.groupdict()


def _differences(node: Node, clean: Workspace) -> Iterator[str]:
    was, now = _record(node)["outputs"], storage.read_json(_made(node, clean) / NAME)["outputs"]
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield f"{node.path}/{name}: recorded {was.get(name, 'nothing')}, rebuilt {now.get(name, 'nothing')}"
