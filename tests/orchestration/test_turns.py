"""Whoever needs what another process holds waits, says for whom, and gets it; what killed processes held is free."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dvc.lock import Lock
from toy_workspace import Toy

from orchestration.ledger import DvcLedger

pytestmark = pytest.mark.orchestration
STAGE = "finetune@2018-full-pretrained"
OUTPUT = "models/finetuned/2018/full/pretrained"


@contextmanager
def repro(toy: Toy, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A `dvc repro` in the midst of its step, and the file that lets the step end."""
    go = toy.root / "go"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *words], cwd=toy.root, env=os.environ | {"TOY_WAIT": str(go)},
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until(
            lambda: any("toy.py" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children(True))
        )
        yield process, go
    finally:
        go.touch()
        process.wait()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def stale(toy: Toy) -> None:
    """Make the stage's output out of date, and all it reads current."""
    toy.edit("pretrained: {labels: 0.05}", "pretrained: {labels: 0.07}")


def test_a_stage_that_dvc_repro_is_running_is_waited_for_and_not_computed_again(
    by_dvc: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    stale(by_dvc)
    with repro(by_dvc, "-s", STAGE) as (process, go), ThreadPoolExecutor() as threads:
        version = threads.submit(DvcLedger(by_dvc.root).version, STAGE)
        until(lambda: "waiting for" in caplog.text)
        assert not version.done()
        go.touch()
        assert version.result(60) in by_dvc.lock
    assert process.returncode == 0
    assert OUTPUT in caplog.text
    assert f"(PID {process.pid})" in caplog.text
    assert len([record for record in caplog.records if "waiting for" in record.message]) == 1
    assert by_dvc.ran() == ["finetune 2018 full pretrained"]


def test_while_a_step_of_dvc_repro_runs_other_stages_are_not_held_up(by_dvc: Toy) -> None:
    stale(by_dvc)
    with repro(by_dvc, "-s", STAGE):
        assert DvcLedger(by_dvc.root).version("scratch@2018-full-scratch")
        assert DvcLedger(by_dvc.root).commit("scratch@2018-full-scratch")


def test_whoever_has_dvcs_lock_is_waited_for_longer_than_dvc_itself_would(
    by_dvc: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    lock = Lock(str(by_dvc.root / ".dvc/tmp/lock"))
    with ThreadPoolExecutor() as threads:
        with lock:
            version = threads.submit(DvcLedger(by_dvc.root).version, STAGE)
            until(lambda: "waiting for DVC's lock" in caplog.text)
            assert not version.done()
        assert version.result(60) in by_dvc.lock
    assert f"which process {os.getpid()} holds" in caplog.text


def test_what_a_killed_dvc_repro_had_in_use_is_free(by_dvc: Toy) -> None:
    stale(by_dvc)
    with repro(by_dvc, "-s", STAGE) as (process, _):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert OUTPUT in (by_dvc.root / ".dvc/tmp/rwlock").read_text()
        assert DvcLedger(by_dvc.root).version(STAGE) is None


def test_what_a_killed_process_had_in_use_is_free_though_its_number_is_anothers(by_dvc: Toy) -> None:
    in_use = by_dvc.root / ".dvc/tmp/rwlock"
    entry = {"pid": os.getpid(), "cmd": "dvc repro, before the container started again"}
    in_use.write_text(json.dumps({"write": {str(by_dvc.root / OUTPUT): entry}, "read": {}}))
    before = psutil.Process().create_time() - 10
    os.utime(in_use, (before, before))
    assert DvcLedger(by_dvc.root).version(STAGE)


def test_a_list_of_paths_in_use_that_was_torn_by_a_kill_is_begun_anew(by_dvc: Toy) -> None:
    (by_dvc.root / ".dvc/tmp/rwlock").write_text('{"write": {"/a')
    assert DvcLedger(by_dvc.root).version(STAGE)


def test_threads_of_one_process_take_turns(by_dvc: Toy) -> None:
    stages = ["scratch@2018-full-scratch", "scratch@2019-full-scratch", STAGE, "pretrain"] * 3
    here, lock = Path.cwd(), by_dvc.lock
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda stage: DvcLedger(by_dvc.root).commit(stage), stages))
    assert Path.cwd() == here
    assert by_dvc.lock == lock


def test_a_stage_is_materialised_by_one_at_a_time(by_dvc: Toy, caplog: pytest.LogCaptureFixture) -> None:
    def wait() -> None:
        with DvcLedger(by_dvc.root).held(STAGE):
            pass

    with ThreadPoolExecutor() as threads:
        with DvcLedger(by_dvc.root).held(STAGE), DvcLedger(by_dvc.root).held("pretrain"):
            second = threads.submit(wait)
            until(lambda: f"waiting for {STAGE}: another process materialises it" in caplog.text)
            assert not second.done()
        second.result(60)
