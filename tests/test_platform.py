"""What is reported about the machine, and about the installed torch."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pytest

from vllm import platform
from vllm.platform import TorchBuild

V100 = ("Tesla V100-SXM2-16GB", (7, 0))
H200 = ("NVIDIA H200", (9, 0))
B200 = ("NVIDIA B200", (10, 0))


@pytest.mark.parametrize(
    ("gpu", "torch", "cuda", "advice"),
    [
        (V100, "2.1.2", "12.1", None),
        (V100, "2.7.1+cu118", "11.8", None),
        (V100, "2.7.0", "12.6", None),
        (V100, "2.7.0+cu128", "12.8", "torch<2.11"),
        (V100, "2.8.0", "12.8", None),
        (V100, "2.10.0", "12.8", None),
        (V100, "2.11.0+cu128", "12.8", "torch<2.11"),
        (V100, "2.11.0", "13.0", "torch<2.11"),
        (V100, "2.9.0+cu130", "13.0", "torch<2.11"),
        (H200, "2.1.2", "12.1", None),
        (H200, "2.11.0+cu130", "13.0", None),
        (B200, "2.6.0", "12.4", "for CUDA 12.8 or later"),
        (B200, "2.7.0+cu118", "11.8", "for CUDA 12.8 or later"),
        (B200, "2.8.0", "12.8", None),
        (V100, "2.13.0+cpu", None, None),
    ],
)
def test_a_torch_without_code_for_the_gpu_is_known(gpu, torch, cuda, advice):
    problem = platform.unfit_torch(*gpu, TorchBuild(torch, cuda))
    if advice is None:
        assert problem is None
    else:
        assert problem is not None
        for part in (gpu[0], torch, f"CUDA {cuda}", advice):
            assert part in problem


@pytest.mark.parametrize(
    ("driver", "cuda", "fits"),
    [
        ((12, 4), "13.0", False),
        ((12, 0), "12.8", True),  # CUDA's minor versions are compatible
        ((13, 0), "13.2", True),
        ((11, 8), "12.1", False),
        ((12, 4), "11.8", True),
        ((12, 4), None, True),
    ],
)
def test_a_driver_too_old_for_torch_is_known(driver, cuda, fits):
    said = platform.old_driver(driver, TorchBuild("2.13.0", cuda))
    assert (said is None) == fits
    if said is not None:
        assert f"for CUDA {cuda}, and this driver supports CUDA up to {driver[0]}." in said


@pytest.fixture
def install_torch(tmp_path, monkeypatch):
    """A function that puts a torch with the given version.py first on the path."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def install(version_py):
        package = tmp_path / "torch"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('torch was imported')")
        if version_py is not None:
            (package / "version.py").write_text(version_py)
        importlib.invalidate_caches()

    return install


VERSION_PY = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = 'cf30153c4c131c8164ee7798e5022d810682e2cb'
hip: Optional[str] = None
"""


@pytest.mark.parametrize(
    ("version_py", "expected"),
    [
        (VERSION_PY, TorchBuild("2.11.0+cu130", "13.0")),
        (VERSION_PY.replace("'13.0'", "None"), TorchBuild("2.11.0+cu130", None)),
        ("__version__ = '2.1.2'\ncuda = '12.1'\n", TorchBuild("2.1.2", "12.1")),
        (None, None),
    ],
)
def test_torch_is_described_without_importing_it(install_torch, version_py, expected):
    install_torch(version_py)
    assert platform.torch_build() == expected


def test_the_real_torch_is_described():
    torch = pytest.importorskip("torch")
    assert platform.torch_build() == TorchBuild(torch.__version__, torch.version.cuda)


def test_importing_warns_of_an_unfit_torch(install_torch, monkeypatch):
    install_torch(VERSION_PY)
    monkeypatch.setattr(platform, "installed_gpus", lambda: [H200, V100])
    with pytest.warns(RuntimeWarning, match="V100.*torch<2.11") as caught:
        platform.warn_of_unfit_torch()
    assert len(caught) == 1


@pytest.mark.parametrize("version_py", [VERSION_PY.replace("'13.0'", "None"), None])
def test_a_torch_without_cuda_is_no_reason_to_ask_for_gpus(install_torch, monkeypatch, version_py):
    install_torch(version_py)

    def ask() -> list:
        raise AssertionError("asked for GPUs")

    monkeypatch.setattr(platform, "installed_gpus", ask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        platform.warn_of_unfit_torch()


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver"
)
def test_without_a_driver_there_are_no_gpus():
    assert platform.installed_gpus() == []
    assert platform.kernel_driver() is None
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        platform.gpus()


def test_select_code_gives_a_reason_instead_of_an_exception(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_KERNEL_DIR", str(tmp_path))
    (tmp_path / "sm_80").mkdir()
    assert platform.select_code((8, 6)) == ("sm_80", None)
    code, problem = platform.select_code((9, 0))
    assert code is None
    assert "holds sm_80" in problem


def test_libc_is_named():
    assert platform.libc().startswith("glibc 2.")
