import pytest
import torch

from stcln.model import compute
from stcln.model.compute import generator, pick, randomness, stream_seed
from stcln.study import Compute

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def restored():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_bfloat16_is_picked_where_the_cpu_multiplies_in_it(no_gpu, monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick(Compute()).dtype == dtype


def test_a_stated_precision_and_thread_count_are_obeyed(no_gpu):
    device = pick(Compute(precision="float32", threads=1))
    assert (device.device, device.dtype, torch.get_num_threads()) == (CPU, torch.float32, 1)
    assert pick(Compute(precision="bfloat16")).dtype == torch.bfloat16
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autocast_multiplies_in_the_precision_picked(no_gpu, precision):
    device = pick(Compute(precision=precision))
    with device.autocast():
        assert str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype) == f"torch.{precision}"
    assert device.name == f"CPU, {precision}"


def test_a_gpu_is_picked_when_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compute, "_has_bfloat16", lambda device: device.type == "cuda")
    assert pick(Compute()) == compute.Device(torch.device("cuda"), torch.bfloat16)


def test_streams_of_one_seed_are_named_and_independent():
    assert stream_seed(1, "mask", 2) == stream_seed(1, "mask", 2)
    assert len({stream_seed(s, name, n) for s in (1, 2) for name in ("mask", "order") for n in (1, 12)}) == 8
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))


def test_randomness_depends_on_the_stream_and_leaves_no_trace():
    before = torch.get_rng_state()
    with randomness(CPU, 1, "step", 5):
        first = torch.rand(3)
    with randomness(CPU, 1, "step", 5):
        again = torch.rand(3)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
