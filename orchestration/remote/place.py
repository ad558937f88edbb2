"""A step in an empty directory: takes its inputs from the remote, runs its verb, and sends what it made there."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from dvc.repo import Repo, lock_repo
from dvc.stage.serialize import to_single_stage_lockfile

from orchestration.remote.known import Entry, Known, key_of
from orchestration.remote.order import given, packed, unpack
from orchestration.remote.store import Store
from stcln.errors import BadInput, NoAnswer
from stcln.interrupt import Stopped
from stcln.storage import read_json
from stcln.workspace import Workspace

RESUME = ".stcln/resume"
EVERY = 60.0
"""Seconds between two looks whether a training's state is to be kept in the remote."""
Run = Callable[[Sequence[str]], Mapping[str, Any]]


def run_elsewhere(argv: Sequence[str], run: Run) -> dict[str, Any]:
    """Run a step that was ordered; its directory is gone afterwards.

    Args:
        argv: Its verb and options, and its order.
        run: Runs a verb in the working directory.

    Returns:
        Its summary, and under `made` what the ledger records; of a team of processes the first alone sends that.

    Raises:
        BadInput: As the verb; an input that the remote does not have; a remote that does not answer.
    """
    logging.getLogger("dvc").setLevel(logging.ERROR)
    words, order = given(argv)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        with chdir(_door(opened=True)):
            return {**run(words)}
    leads = os.environ.get("RANK", "0") == "0"
    with tempfile.TemporaryDirectory(prefix="stcln-") as directory, chdir(directory):
        place = Path(directory).resolve()
        remote = order.lay(place)
        with Repo(str(place)) as repo, lock_repo(repo):
            store = Store(repo, remote)
            known = Known(repo, store)
            if order.unless_made and (entry := known.entry(order.stage)):
                return {"made": {"entry": entry}}
            for name, path in known.read_by(order.stage).items():
                _bring(known, store, name, path)
            state = f"resume/{order.stage}/{key_of(known.wanted(order.stage) or {})}"
            with _resumed(store, state, place, keeps=leads), _open_to_others(place):
                summary = run(words)
            if not leads:
                return {**summary}
            made = {"entry": _send(known, store, order.stage)}
            store.forget(f"resume/{order.stage}")
        record = Workspace(place).run_record(order.stage)
        return {**summary, "made": {**made, **({"record": read_json(record)} if record.exists() else {})}}


def _bring(known: Known, store: Store, name: str, path: str) -> None:
    """Put another stage's output where it belongs."""
    entry = known.entry(name)
    if entry is None:
        problem = f"stage {name} has not made it, or it is not in the remote"
        raise BadInput(path, problem, f"materialise {name}, or `dvc push` what it made")
    for out in known.stage(name, entry).outs:
        try:
            store.pull(store.listed(out.hash_info.value).values())
        except BadInput as error:
            raise type(error)(f"{path} in {error.where}", error.problem, error.remedy) from error
        out.checkout()


def _door(*, opened: bool) -> Path:
    """Where the processes that torchrun started on this machine find what the first of them has laid.

    Args:
        opened: Wait until it has; should it fail, torchrun ends them all.
    """
    door = Path(tempfile.gettempdir()) / f"stcln-of-{os.getppid()}-{os.environ.get('MASTER_PORT')}"
    while opened and not door.exists():
        time.sleep(0.2)
    return door


@contextmanager
def _open_to_others(place: Path) -> Iterator[None]:
    """Within, the other processes of this machine work in the same directory."""
    if os.environ.get("LOCAL_WORLD_SIZE", "1") == "1":
        yield
        return
    door = _door(opened=False)
    door.unlink(missing_ok=True)  # of a process of the same number that was killed
    door.symlink_to(place)
    try:
        yield
    finally:
        door.unlink()


@contextmanager
def _resumed(store: Store, name: str, place: Path, *, keeps: bool) -> Iterator[None]:
    """Go on where a run of the same command and inputs was ended, and keep where this one is, however it ends.

    Of a team every machine goes on, and the first process keeps.
    """
    if state := store.get(name):
        unpack(state, place)
    if not keeps:
        yield
        return
    over, kept = threading.Event(), set[float]()

    def keep() -> None:
        files = [path for path in sorted((place / RESUME).rglob("*")) if path.is_file()]
        now = {path.stat().st_mtime for path in files}
        if now - kept:
            store.put(name, packed(place, files))
            kept.update(now)

    def keep_on() -> None:
        while not over.wait(EVERY):
            with suppress(OSError, NoAnswer, BadInput):  # at the next look, perhaps
                keep()

    beside = threading.Thread(target=keep_on, daemon=True)
    beside.start()
    try:
        yield
    except Stopped:
        keep()
        raise
    finally:
        over.set()
        beside.join()


def _send(known: Known, store: Store, name: str) -> Entry:
    """Send what a stage made, then its run: where a run is known, all that it made is there."""
    stage = known.stage(name)
    stage.save()
    stage.commit()
    for out in stage.outs:
        store.push(out.hash_info.value)
    store.push_runs()
    found: Entry = to_single_stage_lockfile(stage)
    return found
