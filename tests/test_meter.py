"""What a run took of the machine is measured, recorded outside every output, and never mistaken for another run's."""

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from stcln import runs, storage
from stcln.meter import WATTS, Meter, watt_hours
from stcln.workspace import Workspace

BUSY = "import time\nwhile time.process_time() < 0.3: pass"
CARDS = ("GPU-aaa", "GPU-bbb")


def test_processor_time_is_of_work_and_of_children_and_not_of_waiting() -> None:
    meter = Meter()
    time.sleep(0.3)
    waited = meter.read()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    found = meter.read()
    assert waited["seconds"] >= 0.3 and waited["cpu_seconds"] < 0.2
    assert found["cpu_seconds"] - waited["cpu_seconds"] >= 0.25


def test_the_highest_memory_is_in_bytes() -> None:
    held = bytearray(200_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert 200e6 < Meter().read()["peak_memory"] < 100e9


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Joules that two cards have counted, by a stand-in for NVML; torch is told that it has the second of them."""
    joules = {"GPU-aaa": 5.0, "GPU-bbb": 100.0}
    nvml = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})

    def total(card: str) -> float:
        if card not in joules:
            raise nvml.NVMLError("not supported")
        return joules[card] * 1000

    given = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(CARDS),
        "nvmlDeviceGetHandleByIndex": CARDS.__getitem__,
        "nvmlDeviceGetUUID": str,
        "nvmlDeviceGetTotalEnergyConsumption": total,
    }
    nvml.__dict__.update(given)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(uuid="bbb"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    return joules


def test_a_gpu_s_energy_is_what_its_own_counter_rose_by(counter: dict[str, float]) -> None:
    meter = Meter()
    counter.update({"GPU-aaa": 1e6, "GPU-bbb": 3700.0})
    found = meter.read()
    assert found["gpu_joules"] == 3600.0 and found["peak_gpu_memory"] == 7
    assert watt_hours(found | {"cpu_seconds": 300.0}) == pytest.approx(1 + 300 * WATTS / 3600)


def test_where_a_gpu_s_energy_is_not_counted_none_is_claimed(counter: dict[str, float]) -> None:
    del counter["GPU-bbb"]
    assert watt_hours(Meter().read()) is None


def test_without_a_gpu_energy_is_that_of_busy_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = Meter().read() | {"cpu_seconds": 600.0}
    assert found["gpu_joules"] == 0.0 and watt_hours(found) == pytest.approx(WATTS / 6)


def made(tmp_path: Path, text: str = "one") -> tuple[Workspace, str, Path]:
    output = tmp_path / "models/pretrained"
    output.mkdir(parents=True, exist_ok=True)
    (output / "lineage.json").write_text(text)
    return Workspace(tmp_path), "pretrain", output


def test_a_record_is_read_for_the_output_that_its_run_made_and_for_no_other(tmp_path: Path) -> None:
    where = made(tmp_path)
    assert runs.read(*where) is None
    with runs.record(*where) as more:
        more["summary"] = {"validation": 0.5}
    found = runs.read(*where)
    assert found and found["summary"] == {"validation": 0.5} and found["cpu_seconds"] >= 0
    assert runs.read(*made(tmp_path, "pulled from elsewhere")) is None
    assert runs.read(*made(tmp_path)) == found, "and again when that output is back"


def test_a_run_that_fails_leaves_the_record_of_the_one_before(tmp_path: Path) -> None:
    where = made(tmp_path)
    with runs.record(*where):
        pass
    found = runs.read(*where)
    with pytest.raises(KeyError), runs.record(*where):
        raise KeyError
    assert runs.read(*where) == found


@pytest.mark.parametrize("text", ["{", "[]", '{"output": null}'])
def test_a_record_that_is_torn_or_empty_counts_as_none(tmp_path: Path, text: str) -> None:
    where = made(tmp_path)
    storage.write_text(where[0].run_record(where[1]), text)
    assert runs.read(*where) is None
