"""The ledger where steps see no disk of Dagster's: it records what they made and fetches what the UI shows of it."""

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from dvc.config import RemoteConfigError
from dvc.fs import HTTPFileSystem, LocalFileSystem
from dvc.repo import Repo

from assets.show import SEEN
from assets.stage import Metadata
from orchestration.ledger import DvcLedger
from orchestration.remote.known import Entry, Known, key_of
from orchestration.remote.order import send
from orchestration.remote.store import Store
from orchestration.turns import in_turn, repository
from stcln.errors import BadInput
from stcln.storage import digest, whole_directory, write_json
from stcln.workspace import Workspace

T = TypeVar("T")
MIB = 1 << 20
FIELD = "field results of the deployment"


class RemoteLedger(DvcLedger):
    """The ledger of a workspace whose bytes lie in its DVC remote; of outputs it has here what the UI shows.

    An output stands if the remote has it, whatever lies here.

    Args:
        root: The workspace.
        sees_disk: Whether steps do: then the remote may be a directory.

    Raises:
        BadInput: It has no default remote that carries a run-cache, or its archive lies on this machine.
    """

    def __init__(self, root: Path, *, sees_disk: bool = True) -> None:
        super().__init__(root)
        self._wanted: dict[str, Entry] = {}
        self._known: Known | None = None
        with repository(root) as repo:
            _check(repo, sees_disk)
        if Workspace(root).study.dataset.local:
            problem = "lies on this machine, and steps see no disk of it"
            remedy = f"name an address (s3://...), or `results: shared` ({FIELD})"
            raise BadInput(f"{root / 'params.yaml'}, field dataset.source", problem, remedy)

    def argv(self, stage: str) -> list[str]:
        """The words of a stage's command, and its order."""

        def ask(known: Known, repo: Repo) -> list[str]:
            if (wanted := known.wanted(stage)) is None:
                absent = next(path for name, path in known.read_by(stage).items() if known.entry(name) is None)
                raise BadInput(f"stage {stage}", f"{absent} is not in the remote", "materialise what makes it")
            self._wanted[stage] = wanted
            return [*shlex.split(wanted["cmd"]), *send(repo, known, known.store, stage).words]

        return self._look(ask)

    def versions(self, stages: Sequence[str]) -> dict[str, str | None]:
        """DVC's md5 of each stage's output if the remote has it, made as the stage would be now, else None.

        A run that dvc.lock does not have, but the run-cache, is recorded.
        """

        def ask(known: Known, repo: Repo) -> dict[str, str | None]:
            return {stage: self._recorded(known, stage, known.entry(stage)) for stage in stages}

        return self._look(ask)

    def standing(self, stages: Sequence[str]) -> set[str]:
        """Those stages that dvc.lock has as they would be made now, and the remote too. Records nothing."""
        return self._look(
            lambda known, _: {name for name in stages if (e := known.entry(name)) and e == known.locked.get(name)}
        )

    def commit(self, stage: str, made: Mapping[str, Any] | None = None) -> str:
        """Record what a step told that it made, without its bytes; DVC's md5 of the output.

        Raises:
            BadInput: It ran something else than was asked for, an input or parameter is no longer what it was then, or
                the remote does not have the output.
        """
        if made is None:
            raise BadInput(f"stage {stage}", "its step told nothing of what it made", "build its image again")
        asked, entry = self._wanted.pop(stage), made["entry"]

        def record(known: Known, repo: Repo) -> str:
            if (now := known.wanted(stage)) != asked:
                what = _difference(asked, now or {})
                raise BadInput(f"stage {stage}", f"{what} was changed while it ran", "materialise it again")
            if key_of(entry) != key_of(asked):
                what = _difference(asked, entry)
                raise BadInput(f"stage {stage}", f"its step ran with another {what}", "build its image again")
            if not all(known.store.holds(out["md5"]) for out in entry["outs"]):
                raise BadInput(f"stage {stage}", f"{known.store.url} lacks what it made", "materialise it again")
            known.store.forget(f"orders/{stage}")
            return str(self._recorded(known, stage, entry))

        version = self._look(record)
        if "record" in made:
            write_json(Workspace(self.root).run_record(stage), made["record"])
        return version

    def bring(self, stage: str) -> Metadata:
        """Bring here those files of a stage's output that the UI shows; says where the others are."""

        def fetch(known: Known, repo: Repo) -> Metadata:
            (out,) = known.locked[stage]["outs"]
            files = known.store.listed(out["md5"])
            seen = {name: md5 for name, md5 in files.items() if any(fnmatchcase(name, pattern) for pattern in SEEN)}
            target = self.root / out["path"]
            if not all(_is(target / name, md5) for name, md5 in seen.items()):
                known.store.pull(seen.values())
                with whole_directory(target) as part:
                    for name, md5 in seen.items():
                        (part / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(repo.cache.local.oid_to_path(md5), part / name)
            where = f"{known.store.url}; `dvc pull {out['path']}` brings it here"
            return {"bytes": where, "size": f"{out['size'] / MIB:.3g} MiB in {out['nfiles']} files"}

        return self._look(fetch)

    def bring_whole(self, stages: Sequence[str]) -> None:
        """Bring here all of the outputs that stand, for who reads them on this side."""

        def fetch(known: Known, repo: Repo) -> None:
            for stage in stages:
                for out in known.stage(stage, known.locked[stage]).outs:
                    known.store.pull(known.store.listed(out.hash_info.value).values())
                    out.checkout(force=True)  # of a part that is here DVC would ask whether it may go

        self._look(fetch)

    def _look(self, ask: Callable[[Known, Repo], T]) -> T:
        def look(repo: Repo) -> T:
            store = Store(repo, self._known.store if self._known else None)
            self._known = Known(repo, store, self._known)
            return ask(self._known, repo)

        return in_turn(self.root, look)

    def _recorded(self, known: Known, stage: str, entry: Entry | None) -> str | None:
        """Put an entry into dvc.lock, if it is another than stands there; its version."""
        if entry is None:
            return None
        if entry != known.locked.get(stage):
            self._lock.put(stage, entry)
        return str(entry["outs"][0]["md5"])


def _check(repo: Repo, sees_disk: bool) -> None:
    try:
        repo.cloud.get_remote_odb(hash_name="md5-dos2unix")  # where the run-cache lies
        system = repo.cloud.get_remote().fs
        why = "one of the web carries no run-cache" if isinstance(system, HTTPFileSystem) else ""
        if isinstance(system, LocalFileSystem) and not sees_disk:
            why = "it lies on this machine, and steps see no disk of it"
    except RemoteConfigError as error:
        why = str(error).splitlines()[0]
    if why:
        problem = f"it names no default remote that results can travel by ({FIELD}): {why}"
        raise BadInput(f"{repo.root_dir}/.dvc/config", problem, "`dvc remote add --force --default NAME URL`")


def _is(file: Path, md5: str) -> bool:
    return file.is_file() and digest(file) == md5


def _difference(asked: Entry, found: Entry) -> str:
    """The first part of an entry that another has otherwise."""

    def parts(entry: Entry) -> dict[str, Any]:
        fields = {f"{file}, {name}": v for file, held in entry.get("params", {}).items() for name, v in held.items()}
        return {**{dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}, **fields, "command": entry.get("cmd")}

    one, other = parts(asked), parts(found)
    return next((name for name in {**one, **other} if one.get(name) != other.get(name)), "output")
