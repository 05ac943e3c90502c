"""Reads from the environment what to build: device, CUDA version and compiler of kernels.

It runs on Python 3.8 in build environments, like `ci.matrix`.
"""

import os
import sys
from dataclasses import dataclass, replace
from platform import machine
from sysconfig import get_config_var
from typing import Mapping, Optional

from backend.device_compiler import Nvcc, find_nvcc
from ci import matrix
from ci.errors import CiError
from ci.matrix import Cuda

DEVICES = ("cuda", "cpu", "empty")
PROCESSORS = (
    "x86_64",
    "AMD64",
    "aarch64",
)  # supported by the host code; names as in `platform.machine`


def torch_requirement(cuda: Cuda) -> str:
    """METADATA's torch requirement for wheels of `cuda`."""
    return f"torch{cuda.torch}"


class OptionError(CiError):
    """An environment variable has a value that cannot be built."""


@dataclass(frozen=True)
class Options:
    """The choices for one build."""

    device: str  # one of DEVICES
    cuda: Optional[Cuda]  # None unless the device is cuda
    nvcc: Optional[Nvcc]  # None: NVRTC from the pinned wheels, or nothing is compiled
    precompiled: bool = False  # native files come from a published wheel
    device_chosen_by: str = "VLLM_TARGET_DEVICE"
    without_nvcc: str = ""  # why NVRTC is used instead

    @property
    def compiles(self) -> bool:
        """Whether there is anything to compile."""
        return self.device != "empty" and not self.precompiled

    @property
    def variant(self) -> str:
        """The variant in build.json: ``cu121``, ``cpu``, ``empty``."""
        return self.cuda.variant if self.cuda else self.device

    @property
    def local(self) -> Optional[str]:
        """The local version, None for the default CUDA."""
        return self.cuda.local if self.cuda else self.device

    @property
    def torch(self) -> str:
        """METADATA's torch requirement."""
        return torch_requirement(self.cuda or matrix.load().default)


def read(
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    processor: str = "",
    free_threaded: bool = bool(get_config_var("Py_GIL_DISABLED")),
    *,
    decided: bool = False,
) -> Options:
    """Reads the options in `environ` for `platform` (as `sys.platform`).

    processor: as `platform.machine` names it, by default this machine's.
    decided: the caller names the compilers, so no nvcc of this machine is asked for its version.

    ``VLLM_TARGET_DEVICE`` is the device: cuda by default on Linux, empty elsewhere.
    ``VLLM_CUDA_VERSION`` is the CUDA: by default nvcc's, or without nvcc the matrix's default.
    ``VLLM_USE_PRECOMPILED`` and ``VLLM_PRECOMPILED_WHEEL_LOCATION`` select published native files.
    Raises OptionError for an invalid value, and ToolkitError.
    """
    given = environ.get("VLLM_TARGET_DEVICE")
    device = given or ("cuda" if platform == "linux" else "empty")
    if device not in DEVICES:
        raise OptionError(
            f"VLLM_TARGET_DEVICE is {device!r}",
            means="it selects the device to build kernels for",
            do=f"set it to one of: {', '.join(DEVICES)}",
        )
    if device != "empty":
        _require_native(device, processor or machine(), free_threaded)
    precompiled = _wants_precompiled(environ)
    chosen_by = "VLLM_TARGET_DEVICE" if given else f"the default on {platform}"
    if device != "cuda":
        if precompiled:
            raise OptionError(
                f"precompiled native files were requested, but the device is {device}",
                means="published wheels have the native files of CUDA builds, which run on the "
                "CPU too",
                do="unset VLLM_TARGET_DEVICE, or VLLM_USE_PRECOMPILED and "
                "VLLM_PRECOMPILED_WHEEL_LOCATION",
            )
        return Options(device, None, None, device_chosen_by=chosen_by)
    wanted = environ.get("VLLM_CUDA_VERSION")
    if precompiled and sys.version_info < (3, 9):
        raise OptionError(
            "precompiled native files were requested in a build with Python 3.8",
            means="reading the lists of published wheels needs Python 3.9 or newer",
            do="build with a newer Python, whose wheel also works on 3.8; or compile",
        )
    if precompiled:  # no compiler is needed
        return Options(device, _cuda_of_matrix(wanted), None, True, chosen_by)
    nvcc = None if decided else find_nvcc(environ)
    if nvcc is not None and wanted in (None, "", nvcc.version):
        nvcc.check_age()
        cuda = _cuda_of_nvcc(nvcc, named=bool(wanted))
        return Options(device, cuda, nvcc, device_chosen_by=chosen_by)
    why = "no nvcc on PATH, and CUDA_HOME is not set"
    if nvcc is not None:
        why = f"VLLM_CUDA_VERSION is {wanted}; {nvcc.path} has CUDA {nvcc.version} and is not used"
    return Options(
        device, _cuda_of_matrix(wanted), None, device_chosen_by=chosen_by, without_nvcc=why
    )


def _require_native(device: str, processor: str, free_threaded: bool) -> None:
    """Raises OptionError if this machine or Python cannot run native code."""
    if processor not in PROCESSORS:
        raise OptionError(
            f"this machine is {processor}, but vllm has native code only for x86-64 and 64-bit Arm",
            means=f"the device is {device}, whose host code cannot run on this processor",
            do="use one of those, or build without native code: set VLLM_TARGET_DEVICE=empty",
        )
    if free_threaded:
        raise OptionError(
            "this Python is free-threaded, which vllm's native code does not support",
            means="native code uses the limited API of Python 3.8, which free-threaded builds "
            "lack: they have another layout of objects",
            do="use a Python with the GIL, of any version from 3.8 on, or build without native "
            "code: set VLLM_TARGET_DEVICE=empty",
        )


def _wants_precompiled(environ: Mapping[str, str]) -> bool:
    value = environ.get("VLLM_USE_PRECOMPILED", "")
    if value not in ("", "0", "1"):
        raise OptionError(
            f"VLLM_USE_PRECOMPILED is {value!r}",
            means="it selects whether native files come from a published wheel",
            do="set it to 1 or 0",
        )
    location = environ.get("VLLM_PRECOMPILED_WHEEL_LOCATION")
    return value == "1" or (value == "" and bool(location))


def _cuda_of_matrix(version: Optional[str]) -> Cuda:
    known = matrix.load()
    if not version:
        return known.default
    for cuda in known.cudas:
        if cuda.version == version:
            return cuda
    raise OptionError(
        f"VLLM_CUDA_VERSION is {version!r}, but no nvcc of that version was found",
        means="only the CUDA versions of ci/matrix.toml can be built without a toolkit",
        do=f"set it to one of {', '.join(cuda.version for cuda in known.cudas)}, "
        "or set CUDA_HOME to a toolkit of that version",
    )


def _cuda_of_nvcc(nvcc: Nvcc, *, named: bool) -> Cuda:
    """The matrix's entry for this version, or a copy of the default with this version.

    A variant on request requires a torch with its CUDA, so it is used only if VLLM_CUDA_VERSION
    names it. Otherwise kernels compiled by an nvcc work with any torch.
    """
    known = matrix.load()
    for cuda in known.cudas:
        if cuda.version == nvcc.version and (named or not cuda.on_request):
            return cuda
    return replace(known.default, version=nvcc.version, default=False)
