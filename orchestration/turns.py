"""Waiting for a turn, for hours if need be, and saying for what: at DVC's lock, at paths in use, at a stage.

A lock error reaches nobody: DVC's own lock gives up after three seconds, and what a `dvc repro` has in use while its
step runs is refused at once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
from dvc.config import ConfigError
from dvc.dependency.param import MissingParamsError
from dvc.lock import DEFAULT_TIMEOUT, FAILED_TO_LOCK_MESSAGE, LockError
from dvc.repo import Repo, lock_repo
from dvc.rwlock import RWLOCK_FILE

from stcln.errors import BadInput
from stcln.runs import alone
from stcln.storage import write_json
from stcln.workspace import Workspace

T = TypeVar("T")
REMEDY = "`python -m stcln new . --update` writes what may be left out"
PAUSE = 0.5
REMIND = 600.0
"""Seconds between two tries, and between two log lines."""
LATER = 2.0
"""Seconds by which a process that began after a file was written does so for certain."""

_this_process = threading.Lock()  # DVC's lists of paths in use, and the working directory, know processes, not threads


def in_turn(root: Path, work: Callable[[Repo], T]) -> T:
    """Do some work on a workspace's DVC repository, opened anew and locked; what it gives.

    Where it meets a path that another process has in use, all of it is done again later.

    Raises:
        BadInput: params.yaml lacks a section that a stage depends on; or as for `repository`.
    """

    def attempt() -> T:
        try:
            with _opened(root) as repo:
                return work(repo)
        except MissingParamsError as error:
            problem = f"DVC misses what a stage reads: {error}"
            raise BadInput(root / "params.yaml", problem.rstrip("."), REMEDY) from error

    return _patiently(attempt, LockError, lambda error: _holder(root, error))


@contextmanager
def repository(root: Path) -> Iterator[Repo]:
    """A workspace's DVC repository, not locked.

    Raises:
        BadInput: DVC cannot use its settings.
    """
    try:
        with Repo(str(root)) as repo:
            yield repo
    except ConfigError as error:
        raise BadInput(root / ".dvc/config", " ".join(str(error).split()), "correct it, or take it from git") from error


@contextmanager
def stage_held(root: Path, stage: str) -> Iterator[None]:
    """Hold a stage for the length of the block; whoever else wants it waits. It is let go with the process, too."""
    with ExitStack() as held:
        _patiently(
            lambda: held.enter_context(alone(Workspace(root), f"{stage}.materialise")),
            BadInput,
            lambda _: f"{stage}: another process materialises it",
        )
        yield


def _patiently(attempt: Callable[[], T], refusal: type[Exception], why: Callable[[Exception], str]) -> T:
    told = -REMIND
    while True:
        try:
            return attempt()
        except refusal as error:
            if time.monotonic() - told >= REMIND:
                told = time.monotonic()
                dg.get_dagster_logger("stcln").warning(f"waiting for {why(error)}")
        time.sleep(PAUSE)


@contextmanager
def _opened(root: Path) -> Iterator[Repo]:
    """The repository under DVC's lock, from within the workspace: DVC's run-cache asks for the working directory."""
    if not _this_process.acquire(timeout=DEFAULT_TIMEOUT):
        raise LockError("another thread of this process, which works on the ledger")
    try:
        with chdir(root), repository(root) as repo, lock_repo(repo):
            _forget_the_killed(Path(str(repo.tmp_dir), RWLOCK_FILE))
            yield repo
    finally:
        _this_process.release()


def _forget_the_killed(in_use: Path) -> None:
    """Mend DVC's list of paths in use after a process was killed: the file torn, or its number now another process's.

    A number that no process has DVC forgets by itself.
    """
    try:
        listed, written = json.loads(in_use.read_text()), in_use.stat().st_mtime
    except FileNotFoundError:
        return
    except json.JSONDecodeError:
        in_use.unlink()
        return

    def holds(entry: dict[str, Any]) -> bool:
        try:
            return bool(psutil.Process(entry["pid"]).create_time() < written + LATER)
        except psutil.NoSuchProcess:
            return False

    write = {path: entry for path, entry in listed.get("write", {}).items() if holds(entry)}
    read = {path: kept for path, entries in listed.get("read", {}).items() if (kept := [*filter(holds, entries)])}
    if (write, read) != (listed.get("write", {}), listed.get("read", {})):
        write_json(in_use, {"write": write, "read": read})


def _holder(root: Path, error: Exception) -> str:
    """Who has what is waited for."""
    if str(error) != FAILED_TO_LOCK_MESSAGE:
        return str(error).partition("\n\n")[0]
    try:
        number = (root / ".dvc/tmp/lock").read_text().strip()
        command = " ".join(psutil.Process(int(number)).cmdline())
    except (OSError, ValueError, psutil.Error):  # let go meanwhile
        return f"DVC's lock on {root}"
    return f"DVC's lock on {root}, which process {number} holds: {command}"
