"""``python -m vllm.collect_env`` always answers, on one screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vllm
from vllm import _C, collect_env, platform
from vllm.version import build


def report(*options: str, **environment: str) -> dict:
    """Label -> text of the report of a fresh interpreter, started with `options`."""
    done = subprocess.run(
        [sys.executable, *options, "-W", "error", "-m", "vllm.collect_env"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    column = lines[0].index(build().version) if build().version in lines[0] else 16
    return {line[:column].strip(): line[column:] for line in lines if line[:column].strip()}


def test_it_says_what_a_bug_report_needs():
    said = dict(collect_env.collect())
    assert said["vllm"] == f"{build().version}, in {Path(vllm.__file__).parent}"
    assert said["commit"].startswith(build().commit or "none recorded")
    assert said["variant"].startswith(build().variant or "none recorded")
    assert sys.executable in said["Python"]
    assert "glibc 2." in said["system"]
    assert said["CPU ops"] == f"{_C.cpu_isa()}, {_C.cpu_threads()} threads"
    assert {"torch", "GPU code", "nvcc", "CUDA_HOME nvcc"} <= said.keys()
    updates = [text for label, text in collect_env.collect() if label == "to update"]
    assert updates == [
        "pip install --force-reinstall --no-deps URL",
        "uv pip install --reinstall URL",
    ]


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver"
)
def test_without_a_driver_it_says_why_nothing_runs():
    assert "no NVIDIA driver on this machine" in report()["GPU"]


def test_a_torch_that_the_driver_cannot_run_is_told(monkeypatch):
    monkeypatch.setattr(collect_env._C, "driver_version", lambda: 12040, raising=False)
    monkeypatch.setattr(
        collect_env.platform, "torch_build", lambda: platform.TorchBuild("2.13.0", "13.0")
    )
    (warning,) = (text for label, text in collect_env.collect() if label == "WARNING")
    assert "this driver supports CUDA up to 12.4: torch will find no GPU" in warning


def test_it_survives_a_build_without_compiled_code(tmp_path):
    ignored = shutil.ignore_patterns("*.so", "kernels", "__pycache__")
    shutil.copytree(Path(vllm.__file__).parent, tmp_path / "vllm", ignore=ignored)
    said = report("-S", PYTHONPATH=str(tmp_path))  # not the one that is installed
    for label in ("CPU ops", "GPU code", "GPU"):
        assert "none: " in said[label], label
        assert "needs compiled code" in said[label], label


def test_it_survives_a_folder_whose_name_is_no_text(tmp_path):
    """With everything that an installation has, among it the library that names the folder."""
    package = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")) / "vllm"
    ignored = shutil.ignore_patterns("kernels", "__pycache__")
    shutil.copytree(Path(vllm.__file__).parent, package, ignore=ignored)
    shutil.copy(_C.__file__, package / "_C.abi3.so")
    said = report("-S", PYTHONPATH=str(package.parent))
    assert said["vllm"].endswith(r"\udcff/vllm")
    # Some Pythons load no extension from such a folder.
    refused = "surrogates not allowed" in said["GPU code"]
    assert refused or rf"there is nothing in {tmp_path}/\udcff/vllm/kernels" in said["GPU code"]


def test_it_survives_a_setting_that_ops_refuse():
    assert "pentium" in report(VLLM_CPU_ISA="pentium")["CPU ops"]


@pytest.fixture
def nvcc(tmp_path):
    """A program that answers --version as nvcc does."""
    program = tmp_path / "bin" / "nvcc"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'nvcc: NVIDIA (R) Cuda compiler driver'\n"
        "echo 'Cuda compilation tools, release 12.1, V12.1.105'\n"
    )
    program.chmod(0o755)
    return program


def test_both_nvccs_are_asked(nvcc, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(nvcc.parent))
    said = dict(collect_env.collect())
    assert said["nvcc"] == f"{nvcc}: release 12.1, V12.1.105"
    assert said["CUDA_HOME nvcc"] == said["nvcc"]


def test_a_missing_nvcc_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = dict(collect_env.collect())
    assert said["nvcc"] == "not on PATH"
    assert said["CUDA_HOME nvcc"] == f"{tmp_path / 'bin' / 'nvcc'} is missing"
    monkeypatch.delenv("CUDA_HOME")
    assert dict(collect_env.collect())["CUDA_HOME nvcc"] == "CUDA_HOME is not set"


def test_an_nvcc_that_fails_is_told(nvcc, monkeypatch):
    monkeypatch.setenv("PATH", str(nvcc.parent))
    nvcc.write_text("#!/bin/sh\nexit 3\n")
    assert dict(collect_env.collect())["nvcc"] == f"{nvcc}: exit status 3"
    nvcc.write_text("not a program")
    assert "does not run" in dict(collect_env.collect())["nvcc"]
