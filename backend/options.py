"""What to build, from the environment: the device, the CUDA version, the compiler of its kernels.

Runs on Python 3.8 inside build environments, beside `ci.matrix`, which needs no more than those
have.
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
)  # that the host code is written for, as `platform` names them


def torch_requirement(cuda: Cuda) -> str:
    """METADATA's torch requirement for wheels of `cuda`."""
    return f"torch{cuda.torch}"


class OptionError(CiError):
    """An environment variable asks for something that cannot be built."""


@dataclass(frozen=True)
class Options:
    """One build's choice."""

    device: str  # one of DEVICES
    cuda: Optional[Cuda]  # None unless the device is cuda
    nvcc: Optional[Nvcc]  # None: NVRTC from the pinned wheels, or nothing is compiled
    precompiled: bool = False  # native files come from a published wheel
    device_chosen_by: str = "VLLM_TARGET_DEVICE"
    without_nvcc: str = ""  # why NVRTC compiles, where it does

    @property
    def compiles(self) -> bool:
        """Whether there is anything to compile."""
        return self.device != "empty" and not self.precompiled

    @property
    def variant(self) -> str:
        """What build.json calls this build: ``cu121``, ``cpu``, ``empty``."""
        return self.cuda.variant if self.cuda else self.device

    @property
    def local(self) -> Optional[str]:
        """The local part of its version, None for the default CUDA."""
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
    """The options that `environ` asks for on `platform` (as `sys.platform`).

    processor: as `platform.machine` names it, by default this machine's.
    decided: the caller names the compilers, so no nvcc of this machine is asked for its version.

    ``VLLM_TARGET_DEVICE`` is the device: cuda by default on Linux, empty elsewhere.
    ``VLLM_CUDA_VERSION`` is the CUDA: by default that of the nvcc found, else the matrix's default.
    ``VLLM_USE_PRECOMPILED`` and ``VLLM_PRECOMPILED_WHEEL_LOCATION`` ask for published native files.
    Raises OptionError for values that are not among the possible ones, and ToolkitError.
    """
    given = environ.get("VLLM_TARGET_DEVICE")
    device = given or ("cuda" if platform == "linux" else "empty")
    if device not in DEVICES:
        raise OptionError(
            f"VLLM_TARGET_DEVICE is {device!r}",
            means="it names the device to build kernels for",
            do=f"set it to one of: {', '.join(DEVICES)}",
        )
    processor = processor or machine()
    if device != "empty" and processor not in PROCESSORS:
        raise OptionError(
            f"this machine is {processor}, and vllm has native code for x86-64 and 64-bit Arm",
            means=f"the device to build for is {device}, whose host code this processor cannot run",
            do="build on one of those, or without native code: set VLLM_TARGET_DEVICE=empty",
        )
    if device != "empty" and free_threaded:
        raise OptionError(
            "this Python is free-threaded, and vllm has no native code for it",
            means="native code is for the limited API of Python 3.8, which builds without the GIL "
            "do not have: objects are laid out otherwise in them",
            do="use a Python with the GIL, of any version from 3.8 on, or build without native "
            "code: set VLLM_TARGET_DEVICE=empty",
        )
    precompiled = _wants_precompiled(environ)
    chosen_by = "VLLM_TARGET_DEVICE" if given else f"the default on {platform}"
    if device != "cuda":
        if precompiled:
            raise OptionError(
                f"precompiled native files are asked for, and the device is {device}",
                means="published wheels hold the native files of CUDA builds, which run on the "
                "CPU too",
                do="unset VLLM_TARGET_DEVICE, or VLLM_USE_PRECOMPILED and "
                "VLLM_PRECOMPILED_WHEEL_LOCATION",
            )
        return Options(device, None, None, device_chosen_by=chosen_by)
    wanted = environ.get("VLLM_CUDA_VERSION")
    if precompiled and sys.version_info < (3, 9):
        raise OptionError(
            "precompiled native files are asked for, by a build with Python 3.8",
            means="the lists of published wheels are read by code for Python 3.9 and newer",
            do="build with a newer Python: the wheel is for 3.8 as well; or compile",
        )
    if precompiled:  # whatever compilers there are
        return Options(device, _cuda_of_matrix(wanted), None, True, chosen_by)
    nvcc = None if decided else find_nvcc(environ)
    if nvcc is not None and wanted in (None, "", nvcc.version):
        nvcc.check_age()
        cuda = _cuda_of_nvcc(nvcc, named=bool(wanted))
        return Options(device, cuda, nvcc, device_chosen_by=chosen_by)
    why = "no nvcc on PATH, and CUDA_HOME is not set"
    if nvcc is not None:
        why = (
            f"VLLM_CUDA_VERSION is {wanted}; {nvcc.path} is of CUDA {nvcc.version} and is not used"
        )
    return Options(
        device, _cuda_of_matrix(wanted), None, device_chosen_by=chosen_by, without_nvcc=why
    )


def _wants_precompiled(environ: Mapping[str, str]) -> bool:
    value = environ.get("VLLM_USE_PRECOMPILED", "")
    if value not in ("", "0", "1"):
        raise OptionError(
            f"VLLM_USE_PRECOMPILED is {value!r}",
            means="it says whether native files are taken from a published wheel",
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
        f"VLLM_CUDA_VERSION is {version!r}, and no nvcc of that version was found",
        means="only the CUDA versions of ci/matrix.toml can be built without a toolkit",
        do=f"set it to one of {', '.join(cuda.version for cuda in known.cudas)}, "
        "or set CUDA_HOME to a toolkit of that version",
    )


def _cuda_of_nvcc(nvcc: Nvcc, *, named: bool) -> Cuda:
    """The matrix's entry for this version, or one like the default.

    A published variant on request requires the torch of its CUDA: only where VLLM_CUDA_VERSION
    has named it is that meant. Other kernels of an nvcc run beside any torch.
    """
    known = matrix.load()
    for cuda in known.cudas:
        if cuda.version == nvcc.version and (named or not cuda.on_request):
            return cuda
    return replace(known.default, version=nvcc.version, default=False)
