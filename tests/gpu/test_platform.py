"""vllm reports the same about this GPU as torch."""

from __future__ import annotations

import pytest

from vllm import _C, collect_env, platform

torch = pytest.importorskip("torch")


def test_gpus_are_those_of_torch():
    told = [(gpu.index, gpu.name, gpu.capability) for gpu in platform.gpus()]
    assert told == [
        (i, torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i))
        for i in range(torch.cuda.device_count())
    ]
    for gpu in platform.gpus():
        assert gpu.code == _C.select_code(*gpu.capability)


def test_nvml_knows_at_least_them():
    assert {(gpu.name, gpu.capability) for gpu in platform.gpus()} <= set(platform.installed_gpus())


def test_whether_torch_has_code_for_this_gpu_is_told_right():
    build = platform.torch_build()
    for gpu in platform.gpus():
        major, minor = gpu.capability
        runs = {f"sm_{major}{each}" for each in range(minor + 1)}
        fits = platform.unfit_torch(gpu.name, gpu.capability, build) is None
        assert fits == (not runs.isdisjoint(torch.cuda.get_arch_list()))


def test_the_report_says_what_would_run():
    said = dict(collect_env.collect())
    for gpu in platform.gpus():
        line = said[f"cuda:{gpu.index}"]
        assert gpu.name in line
        assert line.endswith(f"runs {gpu.code}")
    assert f"up to CUDA {_C.driver_version() // 1000}." in said["NVIDIA driver"]
    assert said["GPU code"].endswith(f", in {_C.code_folder()}")


def test_importing_vllm_does_not_initialize_cuda(run_fresh):
    """So that a process may fork after the import, and use CUDA in its children."""
    code = (
        "import json, os, vllm, vllm.ops, vllm.platform\n"
        "from vllm import _C\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(0 if _C.devices() else 1)\n"
        "print(json.dumps(os.waitpid(child, 0)[1]))"
    )
    assert run_fresh(code) == 0
