"""DVC as the ledger: resolves commands, says what stands, records what was made in dvc.lock, cache and run-cache.

Nothing is run here. DVC's own `repro` is never called, since siblings would wait for each other behind its lock.
"""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.dependency.base import DependencyDoesNotExistError
from dvc.dvcfile import ProjectFile
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from orchestration.lockfile import LockFile
from orchestration.turns import in_turn, stage_held
from stcln.errors import BadInput


class DvcLedger:
    """The ledger of a workspace.

    Each use opens the repository anew in its turn, so that no cache is stale and commits stand in a line.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = LockFile(root / "dvc.lock")
        self._asked: dict[str, dict[str, str]] = {}

    def held(self, stage: str) -> AbstractContextManager[None]:
        """Hold a stage while it is materialised; whoever else in this workspace wants to waits, and then it stands."""
        return stage_held(self.root, stage)

    def argv(self, stage: str) -> list[str]:
        """The words of a stage's command; what it depends on is remembered until its commit."""

        def ask(repo: Repo) -> list[str]:
            found = self._load(repo, [stage])[stage]
            self._asked[stage] = _inputs(found)
            return shlex.split(found.cmd)

        return in_turn(self.root, ask)

    def version(self, stage: str) -> str | None:
        """DVC's md5 of the stage's output if the stage is unchanged, else None. See `versions`."""
        return self.versions([stage])[stage]

    def versions(self, stages: Sequence[str]) -> dict[str, str | None]:
        """`version` of several stages, upstream first, for the price of opening the repository once.

        As `dvc repro` would, it restores what the cache holds: an output that is missing or changed, and what an
        earlier run with the same command and inputs made.
        """

        def look(repo: Repo) -> dict[str, str | None]:
            loaded = self._load(repo, stages)
            return {name: self._version(repo, loaded[name]) for name in stages}

        return in_turn(self.root, look)

    def standing(self, stages: Sequence[str]) -> set[str]:
        """Those stages whose command, parameters, inputs and output are as dvc.lock has them. Restores nothing."""

        def look(repo: Repo) -> set[str]:
            return {name for name, stage in self._load(repo, stages).items() if not stage.changed()}

        return in_turn(self.root, look)

    def commit(self, stage: str, made: Mapping[str, Any] | None = None) -> str:
        """Record the stage's inputs and output in dvc.lock, cache and run-cache; DVC's md5 of the output.

        Raises:
            BadInput: An input or parameter is no longer what it was when the command was asked for.
        """

        def record(repo: Repo) -> str:
            found, asked = self._load(repo, [stage])[stage], self._asked.get(stage, {})
            now = _inputs(found) if asked else {}
            if changed := [name for name, version in asked.items() if now.get(name) != version]:
                raise BadInput(f"stage {stage}", f"{changed[0]} was changed while it ran", "materialise it again")
            return self._commit(found)

        try:
            return in_turn(self.root, record)
        finally:
            self._asked.pop(stage, None)

    def bring(self, stage: str) -> Mapping[str, Any]:
        """All is here."""
        return {}

    def bring_whole(self, stages: Sequence[str]) -> None:
        """All is here."""

    def restore(self, version: str, place: Path) -> None:
        """Put the files of an output of some time, by DVC's md5 of it, into an empty directory.

        Raises:
            BadInput: Neither the cache nor the default remote has them.
        """

        def bring(repo: Repo) -> None:
            files = _cached(repo, version) or _fetched(repo, version)
            if not files:
                problem = f"version {version} is in neither cache nor remote"
                raise BadInput(place.parent, problem, "`dvc fetch` it from where it was pushed, or name another")
            for name, source in files.items():
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

        in_turn(self.root, bring)

    def _load(self, repo: Repo, stages: Sequence[str]) -> dict[str, PipelineStage]:
        """Stages of dvc.yaml with what dvc.lock says of them: of these alone, so that others cost nothing."""
        pipeline = ProjectFile(repo, str(self.root / "dvc.yaml"))
        found = StageLoader(pipeline, pipeline.contents, {"stages": self._lock.read(stages)})
        return {name: found[name] for name in stages if name in found}

    def _commit(self, stage: PipelineStage) -> str:
        stage.save()
        stage.commit()
        self._lock.put(stage.name, to_lockfile(stage)[stage.name])
        return _md5(stage)

    def _version(self, repo: Repo, stage: PipelineStage) -> str | None:
        if not stage.changed():
            return _md5(stage)
        return self._commit(stage) if self._restored(repo, stage) else None

    def _restored(self, repo: Repo, stage: PipelineStage) -> bool:
        """Bring back from the cache what a run of the stage on these inputs made; whether there was such a run."""
        try:
            if stage.changed_stage() or stage.changed_deps():
                stage.save_deps()
                for out in stage.outs:  # what dvc.lock knows was made from other inputs
                    out.hash_info = HashInfo()
            repo.stage_cache.restore(stage, dry=True)
        except (RunCacheNotFoundError, DependencyDoesNotExistError):
            return False
        stage.remove_outs()
        repo.stage_cache.restore(stage)
        return True


def _cached(repo: Repo, version: str) -> dict[str, str]:
    """The files of a directory's version by name, each where the cache has it; none unless it has all."""
    cache, listed = repo.cache.local, _listed(repo, version)
    if not all(cache.exists(file.value) for file in listed.values()):
        return {}
    return {name: cache.oid_to_path(file.value) for name, file in listed.items()}


def _fetched(repo: Repo, version: str) -> dict[str, str]:
    """As `_cached`, after a look at the default remote: for the list of files, then for the files."""
    with suppress(NoRemoteError):
        repo.cloud.pull([HashInfo("md5", version)])
        repo.cloud.pull(list(_listed(repo, version).values()))
    return _cached(repo, version)


def _listed(repo: Repo, version: str) -> dict[str, HashInfo]:
    """The md5 of every file of a directory's version, by name; none where the cache does not have the list."""
    try:
        tree: Any = Tree.load(repo.cache.local, HashInfo("md5", version))
    except (FileNotFoundError, ObjectFormatError):
        return {}
    return {"/".join(key): info for key, (_, info) in tree.iteritems()}


def _inputs(stage: PipelineStage) -> dict[str, str]:
    """The version of all that a stage depends on, by name; empty where something is missing."""
    try:
        stage.save_deps()
    except DependencyDoesNotExistError:
        return {}
    return {str(dep): str(dep.hash_info) for dep in stage.deps}


def _md5(stage: PipelineStage) -> str:
    return str(stage.outs[0].hash_info.value)
