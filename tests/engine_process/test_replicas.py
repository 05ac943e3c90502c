"""What each of several engines has of a machine."""

from __future__ import annotations

import pytest

from vllm import EngineArgs, platform
from vllm.engine_process.replicas import choose_num_fronts, environments


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """machine(number of GPUs): what it has, with a torch for CUDA; without a call, none."""
    for name in ("WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "VLLM_CPU_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def has(count, cuda="12.1"):
        gpus = [("GPU", (9, 0))] * count
        monkeypatch.setattr(platform, "installed_gpus", lambda: gpus)
        monkeypatch.setattr(platform, "torch_build", lambda: platform.TorchBuild("2.4", cuda))

    has(0)
    return has


def devices(num_engines, **args):
    found = environments(EngineArgs("model", **args), num_engines)
    return [each["CUDA_VISIBLE_DEVICES"] for each in found]


def test_one_engine_has_all(machine):
    machine(4)
    assert environments(EngineArgs("model"), 1) == [{}]


def test_each_has_gpus_of_its_own(machine, monkeypatch):
    machine(4)
    assert devices(4) == ["0", "1", "2", "3"]
    assert devices(2, tensor_parallel_size=2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5e,1")
    assert devices(2, device="cuda") == ["3", "GPU-5e"]


def test_more_gpus_than_there_are_are_refused(machine):
    machine(3)
    words = "data_parallel_size 2 × tensor_parallel_size 2 needs 4 GPUs, but there are 3"
    with pytest.raises(ValueError, match=words):
        devices(2, tensor_parallel_size=2)
    machine(0)
    with pytest.raises(ValueError, match="needs 2 GPUs, but there are 0"):
        devices(2, device="cuda")


def test_one_gpu_by_name_is_refused_for_several(machine):
    machine(2)
    with pytest.raises(ValueError, match=r"device must be auto, cuda or cpu .* got 'cuda:1'"):
        devices(2, device="cuda:1")


@pytest.mark.parametrize("gpus", [0, 1])
def test_on_cpus_each_has_a_share(machine, monkeypatch, gpus):
    machine(gpus, cuda=None)
    threads = {"OMP_NUM_THREADS": "2", "VLLM_CPU_THREADS": "2"}
    assert environments(EngineArgs("model"), 4) == [threads] * 4
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert (
        environments(EngineArgs("model", device="cpu"), 16)
        == [{"OMP_NUM_THREADS": "5", "VLLM_CPU_THREADS": "1"}] * 16
    )


def test_numbers_that_make_no_sense(monkeypatch):
    with pytest.raises(ValueError, match="data_parallel_size must be an integer, at least 1"):
        environments(EngineArgs("model"), 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert environments(EngineArgs("model"), 1) == [{}]
    with pytest.raises(ValueError, match="torchrun has started this process: start a server"):
        environments(EngineArgs("model"), 2)


@pytest.mark.parametrize(
    ("processors", "fronts"), [(1, 1), (4, 1), (7, 1), (8, 2), (16, 4), (32, 8), (192, 8)]
)
def test_gpus_leave_processors_to_fronts(machine, monkeypatch, processors, fronts):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(processors)), raising=False)
    machine(1)
    assert choose_num_fronts(EngineArgs("model")) == fronts
    assert choose_num_fronts(EngineArgs("model", device="cpu")) == 1
    machine(0)
    assert choose_num_fronts(EngineArgs("model")) == 1
