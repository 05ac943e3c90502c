"""``python -m vllm.collect_env``: versions and hardware for a bug report, and which GPU code runs.

Works without a GPU, a driver, torch, or vllm's own compiled code. Does not import torch.
"""

from __future__ import annotations

import argparse
import io
import os
import platform as stdlib_platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import vllm
from vllm import platform
from vllm.errors import NativeCodeError
from vllm.ops.native import _C
from vllm.version import build

UPDATE = (
    "pip install --force-reinstall --no-deps URL",
    "uv pip install --reinstall URL",
)

_SYSTEM = (stdlib_platform.system(), stdlib_platform.release(), stdlib_platform.machine())

Line = Tuple[str, str]  # label, text


def collect() -> List[Line]:
    """The lines of the report. Imports no large package, and raises no error."""
    return [
        *_vllm(),
        ("Python", f"{stdlib_platform.python_version()} ({sys.executable})"),
        ("system", " ".join((*_SYSTEM, platform.libc()))),
        *_cpu(),
        ("torch", _torch()),
        *_gpus(),
        ("nvcc", _nvcc(shutil.which("nvcc"), "not on PATH")),
        ("CUDA_HOME nvcc", _cuda_home_nvcc()),
        *(("to update", command) for command in UPDATE),
        *(("WARNING", warning) for warning in _warnings()),
    ]


def _vllm() -> Iterator[Line]:
    this = build()
    yield "vllm", f"{this.version}, in {Path(vllm.__file__).parent}"
    commit = this.commit or "none recorded"
    yield "commit", commit + (" with uncommitted changes" if this.dirty else "")
    cuda = f" (CUDA {this.cuda})" if this.cuda else ""
    yield "variant", (this.variant or "none recorded") + cuda


def _cpu() -> Iterator[Line]:
    try:
        yield "CPU ops", f"{_C.cpu_isa()}, {_C.cpu_threads()} threads"
    except (NativeCodeError, ValueError) as error:  # ValueError: a wrong VLLM_CPU_ISA
        yield "CPU ops", f"none: {error}"


def _torch() -> str:
    torch = platform.torch_build()
    if torch is None:
        return "not installed"
    return f"{torch.version}, " + (f"for CUDA {torch.cuda}" if torch.cuda else "without CUDA")


def _gpus() -> Iterator[Line]:
    try:
        folder = _C.code_folder()
        yield "GPU code", f"{' '.join(platform.archs_in(folder)) or 'nothing'}, in {folder}"
    except (NativeCodeError, RuntimeError) as error:
        yield "GPU code", f"none: {error}"
    try:
        supported = _C.driver_version()
        yield (
            "NVIDIA driver",
            f"{platform.kernel_driver() or 'unknown'}, "
            f"up to CUDA {supported // 1000}.{supported % 1000 // 10}",
        )
        for gpu in platform.gpus():
            runs = f"runs {gpu.code}" if gpu.code else f"runs nothing: {gpu.problem}"
            if gpu.code and gpu.code.startswith("compute_"):
                runs += ", which the driver compiles when it is loaded: no code of its own"
            yield (
                f"cuda:{gpu.index}",
                f"{gpu.name}, compute capability {platform.dotted(gpu.capability)}, {runs}",
            )
    except (NativeCodeError, RuntimeError) as error:
        yield "GPU", f"none: {error}"


def _nvcc(path: Optional[str], otherwise: str) -> str:
    if path is None:
        return otherwise
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run: {error}"
    release = re.search(r"release [^\n]*", done.stdout)
    return f"{path}: {release.group() if release else f'exit status {done.returncode}'}"


def _cuda_home_nvcc() -> str:
    home = os.environ.get("CUDA_HOME")
    if not home:
        return "CUDA_HOME is not set"
    path = Path(home) / "bin" / "nvcc"
    return _nvcc(str(path) if path.is_file() else None, f"{path} is missing")


def _warnings() -> Iterator[str]:
    torch = platform.torch_build()
    if torch is not None:
        try:
            supported = _C.driver_version()
        except (NativeCodeError, RuntimeError):
            pass  # `_gpus` reports it
        else:
            problem = platform.old_driver((supported // 1000, supported % 1000 // 10), torch)
            if problem is not None:
                yield problem
        for name, capability in platform.installed_gpus():
            problem = platform.unfit_torch(name, capability, torch)
            if problem is not None:
                yield problem


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints the report. The exit status is always 0."""
    parser = argparse.ArgumentParser(prog="vllm collect-env", description="What a bug report needs")
    parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a folder's name may not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    lines = collect()
    width = max(len(label) for label, _ in lines)
    previous = ""
    for label, text in lines:
        print(f"{'' if label == previous else label:<{width}}  {text}")
        previous = label
    return 0


if __name__ == "__main__":
    sys.exit(main())
