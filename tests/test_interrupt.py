"""A signal ends a training where nothing is half done, and its state is saved once."""

import signal
import threading
from collections.abc import Callable

import pytest

from stcln.interrupt import SIGNALS, Guard, Stopped, signals, stoppable


@pytest.fixture
def saved() -> list[str]:
    return []


def training(saved: list[str], body: Callable[[Guard], object]) -> None:
    with stoppable() as guard, guard.saving(lambda: saved.append("state")):
        body(guard)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_and_the_state_is_saved_first(number: signal.Signals, saved: list[str]) -> None:
    with pytest.raises(Stopped) as stopped, signals():
        training(saved, lambda guard: signal.raise_signal(number))
    assert saved == ["state"] and stopped.value.status == 128 + number


def test_a_signal_in_what_must_not_be_halved_waits_for_its_end(saved: list[str]) -> None:
    def update(guard: Guard) -> None:
        with guard.whole():
            signal.raise_signal(signal.SIGINT)
            saved.append("update done")
        saved.append("never")

    with pytest.raises(Stopped), signals():
        training(saved, update)
    assert saved == ["update done", "state"]


def test_a_second_signal_does_not_break_the_saving_of_the_first() -> None:
    saved = []

    def save() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        saved.append("state")

    with signals():
        with pytest.raises(Stopped), stoppable() as guard, guard.saving(save):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # on the way out of the program
    assert saved == ["state"]


def test_in_a_program_of_someone_else_ctrl_c_stays_what_it_is_there(saved: list[str]) -> None:
    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with pytest.raises(KeyboardInterrupt):
            training(saved, lambda guard: signal.raise_signal(signal.SIGINT))
        assert saved == ["state"]
        assert [signal.getsignal(number) for number in SIGNALS] == before
    finally:
        signal.signal(signal.SIGINT, found)


def test_a_handler_of_someone_else_stays(saved: list[str]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        training(saved, lambda guard: signal.raise_signal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] and saved == []


def test_training_in_another_thread_leaves_signals_to_the_main_one(saved: list[str]) -> None:
    def update(guard: Guard) -> None:
        with guard.whole():
            saved.append("update done")

    thread = threading.Thread(target=training, args=(saved, update))
    thread.start()
    thread.join()
    assert saved == ["update done"]


def test_nothing_remains_of_a_training_that_no_signal_met(saved: list[str]) -> None:
    threads = threading.active_count()
    with signals():
        handlers = [signal.getsignal(number) for number in SIGNALS]
        training(saved, lambda guard: None)
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert threading.active_count() == threads and saved == []
    assert signal.set_wakeup_fd(-1) == -1
