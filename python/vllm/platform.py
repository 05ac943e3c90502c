"""GPUs, driver and libc of this machine, and which GPU code of vllm and torch runs on it.

Only `gpus` initializes CUDA, and nothing here imports torch: a process that forks afterwards can
still use CUDA in its children.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

Capability = Tuple[int, int]  # compute capability, as (9, 0)


@dataclass(frozen=True)
class Gpu:
    """A GPU. code: the architecture whose code it runs, such as "sm_90a", or None;
    problem: why there is no such code, or None."""

    index: int
    name: str
    capability: Capability
    code: Optional[str]
    problem: Optional[str]


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch. cuda: the CUDA that it was built for, or None."""

    version: str
    cuda: Optional[str]


def gpus() -> List[Gpu]:
    """The GPUs visible to this process, and which code vllm would run on them.

    Initializes the CUDA driver. Raises NativeCodeError without compiled code, RuntimeError without
    a driver or a GPU.
    """
    from vllm.ops.native import _C

    found = []
    for index, (name, major, minor) in enumerate(_C.devices()):
        code, problem = select_code((major, minor))
        found.append(Gpu(index, name, (major, minor), code, problem))
    return found


def select_code(capability: Capability) -> Tuple[Optional[str], Optional[str]]:
    """(the architecture whose code such a GPU would run, None), or (None, why there is none)."""
    from vllm.ops.native import _C

    try:
        return _C.select_code(*capability), None
    except RuntimeError as error:
        return None, str(error)


def archs_in(folder: str) -> List[str]:
    """The architectures of the GPU code in a folder, such as "sm_80" and "compute_90"."""
    names = (path.name for path in Path(folder).glob("*_[0-9]*"))
    return sorted(names, key=lambda name: (name.startswith("c"), len(name.rstrip("af")), name))


def torch_build() -> Optional[TorchBuild]:
    """The torch that ``import torch`` would import, without importing it; None without one."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:  # not an official build: no version.py
        return None
    version = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=\n]*= '([^']+)'", text, re.MULTILINE)
    return TorchBuild(version.group(1) if version else "?", cuda.group(1) if cuda else None)


def torch_capabilities(torch: TorchBuild) -> Tuple[Capability, Capability]:
    """The lowest and highest compute capability that official builds like `torch` have code for.

    From PyTorch's RELEASE.md and its build script: CUDA 13 has no compiler for 7.0; builds for
    CUDA 12.8 and 12.9 added 10.0 and 12.0 and, except with torch 2.8 to 2.10, dropped 7.0.
    """
    release = _numbers(torch.version)
    cuda = _numbers(torch.cuda or "")
    with_volta = cuda < (12, 8) or (cuda < (13, 0) and (2, 8) <= release < (2, 11))
    return (5, 0) if with_volta else (7, 5), (9, 0) if cuda < (12, 8) else (12, 9)


def _numbers(version: str) -> Tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def unfit_torch(name: str, capability: Capability, torch: TorchBuild) -> Optional[str]:
    """Why `torch` does not run on a GPU, and what to install; None if it does."""
    if torch.cuda is None:
        return None  # a CPU build is not meant for a GPU
    lowest, highest = torch_capabilities(torch)
    if lowest <= capability <= highest:
        return None
    older = capability < lowest
    return (
        f"{name} has compute capability {dotted(capability)}, and builds of torch {torch.version} "
        f"for CUDA {torch.cuda} have code for {dotted(lowest)} to {dotted(highest)} only: torch "
        "will fail on it. Install "
        + ("an older one: torch<2.11" if older else "a newer one, for CUDA 12.8 or later")
    )


def old_driver(supported: Tuple[int, int], torch: TorchBuild) -> Optional[str]:
    """Why `torch` does not run with a driver, and what to do; None if it does.

    supported: the newest CUDA of the driver, as (12, 4). It runs programs of that major version.
    """
    needed = _numbers(torch.cuda or "")
    if needed[:1] <= supported[:1]:
        return None
    return (
        f"torch {torch.version} is for CUDA {torch.cuda}, and this driver supports CUDA up to "
        f"{dotted(supported)}: torch will find no GPU. Update the driver, or install an older "
        "torch, for its CUDA"
    )


def dotted(capability: Capability) -> str:
    """``9.0``"""
    return f"{capability[0]}.{capability[1]}"


def warn_of_unfit_torch() -> None:
    """Warns (RuntimeWarning) for each GPU that the installed torch has no code for."""
    torch = torch_build()
    if torch is None or torch.cuda is None:
        return
    for name, capability in installed_gpus():
        problem = unfit_torch(name, capability, torch)
        if problem is not None:
            warnings.warn(problem, RuntimeWarning, stacklevel=3)


def installed_gpus() -> List[Tuple[str, Capability]]:
    """Name and compute capability of every GPU of this machine; empty without NVIDIA's library.

    Uses NVML: unlike CUDA, it leaves no state in the process.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    try:
        return _nvml_gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def _nvml_gpus(nvml: ctypes.CDLL) -> List[Tuple[str, Capability]]:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        name = ctypes.create_string_buffer(96)
        major, minor = ctypes.c_int(), ctypes.c_int()
        if (
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0
            and nvml.nvmlDeviceGetName(device, name, len(name)) == 0
            and nvml.nvmlDeviceGetCudaComputeCapability(
                device, ctypes.byref(major), ctypes.byref(minor)
            )
            == 0
        ):
            found.append((name.value.decode(), (major.value, minor.value)))
    return found


def kernel_driver() -> Optional[str]:
    """The version of the NVIDIA kernel driver, such as "570.86.15"; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"\d+\.\d+(\.\d+)?", text)
    return match.group() if match else None


def libc() -> str:
    """``glibc 2.36``, or why there is none."""
    if sys.platform != "linux":
        return f"none ({sys.platform})"
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (ValueError, OSError):
        return "not glibc"
