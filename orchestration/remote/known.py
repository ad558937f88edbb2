"""What stands where its bytes do not lie: found from dvc.yaml, params.yaml, dvc.lock, run-cache and lists of files.

A stage's inputs are the outputs of others, so their versions are known without a look at them: of a directory that
several stages write into, DVC's version is that of the joined lists.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.dependency.base import DependencyDoesNotExistError
from dvc.dvcfile import ProjectFile
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import _get_cache_hash
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree

from orchestration.lockfile import LockFile
from orchestration.remote.store import Store

Entry = Mapping[str, Any]
"""Of a stage in dvc.lock."""
Paths = dict[str, tuple[list[Path], list[Path]]]
"""Where each stage reads, and where it writes, relative to the workspace."""


class Known:
    """What is known of the stages of a workspace, each asked once.

    Args:
        repo: Its repository, opened from within it.
        store: Its remote.
        last: What was known when it was opened before: where stages read and write, if its texts are the same.
    """

    def __init__(self, repo: Repo, store: Store, last: "Known | None" = None) -> None:
        self.root, self.store = Path(str(repo.root_dir)), store
        pipeline = ProjectFile(repo, str(self.root / "dvc.yaml"))
        self._stages = StageLoader(pipeline, pipeline.contents)
        self._entries: dict[str, Entry | None] = {}
        self._texts = [(self.root / name).read_bytes() for name in ("dvc.yaml", "params.yaml")]
        self._paths: Paths = last._paths if last and last._texts == self._texts else self._look()

    @cached_property
    def locked(self) -> dict[str, Any]:
        """What dvc.lock says."""
        return LockFile(self.root / "dvc.lock").read(self._stages)

    def stage(self, name: str, entry: Entry | None = None) -> PipelineStage:
        """A stage of dvc.yaml, with the versions that an entry names."""
        stage = self._stages[name]
        StageLoader.fill_from_lock(stage, entry)
        return stage

    def entry(self, name: str) -> Entry | None:
        """The entry of a stage whose output the remote has, made by its command from its parameters and inputs.

        It is dvc.lock's if that stands, else the run-cache's; None if there is no such run.
        """
        if name not in self._entries:
            wanted = self.wanted(name)
            self._entries[name] = next((e for e in self._made(name, wanted) if self._held(e)), None) if wanted else None
        return self._entries[name]

    def wanted(self, name: str) -> Entry | None:
        """An entry without an output: the command, inputs and parameters of a run now; None if an input is missing."""
        stage = self.stage(name)
        if not all(self._resolved(dep) for dep in stage.deps):
            return None
        found = to_single_stage_lockfile(stage)
        return {**found, "outs": [{"path": out["path"]} for out in found["outs"]]}

    def read_by(self, name: str) -> dict[str, str]:
        """The stages whose outputs a stage reads, each with its output's path."""
        return {maker: path for read in self._paths[name][0] for path, maker in self._makers(read)}

    def order(self) -> dict[str, set[str]]:
        """All stages, upstream first, each with those whose outputs it reads."""
        needs = {name: set(self.read_by(name)) for name in self._paths}
        return {name: needs[name] for name in TopologicalSorter(needs).static_order()}

    def unmade(self) -> set[Path]:
        """What stages read that no stage makes, relative to the workspace."""
        return {path for reads, _ in self._paths.values() for path in reads if not any(self._makers(path))}

    def _look(self) -> Paths:
        """All paths; to load a large grid takes seconds."""
        stages = {name: self.stage(name) for name in self._stages}
        return {name: (_paths(stage.deps), _paths(stage.outs)) for name, stage in stages.items()}

    def _made(self, name: str, wanted: Entry) -> Iterator[Entry]:
        """Entries of runs as wanted."""
        key, locked = key_of(wanted), self.locked.get(name)
        if locked and key_of(locked) == key:
            yield locked
        yield from self.store.runs(key)

    def _held(self, entry: Entry) -> bool:
        return all(self.store.holds(out["md5"]) for out in entry["outs"])

    def _makers(self, path: Path) -> Iterator[tuple[str, str]]:
        """Outputs at or below a path, and who makes each."""
        for name, (_, writes) in self._paths.items():
            yield from ((output.as_posix(), name) for output in writes if output.is_relative_to(path))

    def _resolved(self, dep: Any) -> bool:
        """Give a dependency the version that it has; whether it has one."""
        made = [found for path in _paths([dep]) for found in self._makers(path)]
        if not made:
            try:
                dep.save()
            except DependencyDoesNotExistError:
                return False
            return True
        entries = {path: self.entry(name) for path, name in made}
        if not all(entries.values()):
            return False
        outs = {path: out for path, e in entries.items() if e for out in e["outs"] if out["path"] == path}
        dep.hash_info = self._joined(Path(dep.def_path), outs)
        size, files = (sum(out[field] for out in outs.values()) for field in (Meta.PARAM_SIZE, Meta.PARAM_NFILES))
        dep.meta = Meta(size=size, nfiles=files, isdir=True)
        return True

    def _joined(self, path: Path, outs: Mapping[str, Mapping[str, Any]]) -> HashInfo:
        """The version of a directory, given those of the outputs in it."""
        if path.as_posix() in outs:
            return HashInfo("md5", outs[path.as_posix()]["md5"])
        tree: Any = Tree()  # type: ignore[no-untyped-call]
        for output, out in outs.items():
            for name, md5 in self.store.listed(out["md5"]).items():
                tree.add((Path(output) / name).relative_to(path).parts, None, HashInfo("md5", md5))
        tree.digest()
        found: HashInfo = tree.hash_info
        return found


def _paths(items: Iterable[Any]) -> list[Path]:
    """Where dependencies or outputs lie in the workspace; parameters lie nowhere."""
    return [Path(item.def_path) for item in items if not isinstance(item, ParamsDependency)]


def key_of(entry: Entry) -> str:
    """DVC's key of an entry in the run-cache: of its command, inputs, parameters and where its outputs lie."""
    return str(_get_cache_hash({**entry}, key=True))
