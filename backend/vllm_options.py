"""What to build, from the environment: the device, the CUDA version, the compiler of its kernels.

Runs on Python 3.8 inside build environments, beside `ci.matrix`, which needs no more than those
have.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Mapping, Optional

from ci import matrix
from ci.errors import CiError
from ci.matrix import Cuda
from ci.native import toolkit_requirements

DEVICES = ("cuda", "cpu", "empty")


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
    nvcc: Optional[Path]  # None: NVRTC from the pinned wheels

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

    def toolkit_requirements(self) -> List[str]:
        """What pip has to install for NVRTC; nothing if an nvcc is used or no CUDA is built."""
        if self.cuda is None or self.nvcc is not None:
            return []
        return [pin.requirement for pin in self.cuda.toolkit]


def read(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Options:
    """The options that `environ` asks for on `platform` (as `sys.platform`).

    ``VLLM_TARGET_DEVICE`` is the device: cuda by default on Linux, empty elsewhere.
    ``VLLM_CUDA_VERSION`` is the CUDA: by default that of the nvcc found, else the matrix's default.
    Raises OptionError for values that are not among the possible ones.
    """
    device = environ.get("VLLM_TARGET_DEVICE") or ("cuda" if platform == "linux" else "empty")
    if device not in DEVICES:
        raise OptionError(
            f"VLLM_TARGET_DEVICE is {device!r}",
            means="it names the device to build kernels for",
            do=f"set it to one of: {', '.join(DEVICES)}",
        )
    if device != "cuda":
        return Options(device, None, None)
    nvcc = _find_nvcc(environ)
    wanted = environ.get("VLLM_CUDA_VERSION") or (nvcc.version if nvcc else None)
    if nvcc is not None and nvcc.version == wanted:
        return Options(device, _cuda_of_nvcc(nvcc), nvcc.path)
    return Options(device, _cuda_of_matrix(wanted), None)


@dataclass(frozen=True)
class _Nvcc:
    path: Path
    version: str  # "12.1"


def _find_nvcc(environ: Mapping[str, str]) -> Optional[_Nvcc]:
    home = environ.get("CUDA_HOME")
    path = f"{home}/bin/nvcc" if home else shutil.which("nvcc", path=environ.get("PATH"))
    if path is None:
        return None
    try:
        words = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"release (\d+\.\d+)", words.stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OptionError(
            f"{path} does not work: {error}",
            means="CUDA_HOME or PATH promises a CUDA toolkit that cannot be used",
            do=f"try `{path} --version`; unset CUDA_HOME to build with NVIDIA's wheels instead",
        ) from error
    if found is None:
        raise OptionError(f"`{path} --version` names no release: {words.stdout.strip()!r}")
    return _Nvcc(Path(path), found.group(1))


def _cuda_of_matrix(version: Optional[str]) -> Cuda:
    known = matrix.load()
    if version is None:
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


def _cuda_of_nvcc(nvcc: _Nvcc) -> Cuda:
    """The matrix's entry for this version, or one like the default with what nvcc can compile."""
    known = matrix.load()
    for cuda in known.cudas:
        if cuda.version == nvcc.version:
            return cuda
    listed = subprocess.run(
        [str(nvcc.path), "--list-gpu-code"], capture_output=True, text=True, check=True
    )
    codes = set(listed.stdout.split())
    base = known.default
    return replace(
        base,
        version=nvcc.version,
        default=False,
        archs=tuple(arch for arch in base.archs if f"sm_{arch.replace('.', '')}" in codes),
        toolkit=(),
    )


def stable_toolkit(cuda: Cuda, root: Path) -> Path:
    """A folder of the source tree with the NVRTC and headers that this environment has.

    pip puts them into an environment that it removes after the build; compile commands that named
    a folder there would differ each time, and every kernel would be compiled again.
    Raises OptionError where they are not installed.
    """
    folder = root / "build" / "toolkit" / f"{cuda.variant}-environment"
    requirements = toolkit_requirements(cuda)
    listing = folder / "requirements.txt"
    if listing.is_file() and listing.read_text(encoding="utf-8") == requirements:
        return folder
    spec = importlib.util.find_spec("nvidia")
    sources = list(spec.submodule_search_locations or []) if spec else []
    if not any(any(Path(source).glob("*/lib/libnvrtc.so.*")) for source in sources):
        pins = " ".join(pin.requirement for pin in cuda.toolkit)
        raise OptionError(
            "there is no nvcc, and NVRTC is not installed",
            means="nothing here can compile the CUDA kernels",
            do="build without --no-build-isolation, set CUDA_HOME, or run: pip install " + pins,
        )
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    for source in sources:
        for part in ("cuda_nvrtc", "cuda_runtime", "cuda_cccl"):
            if (Path(source) / part).is_dir():
                shutil.copytree(Path(source) / part, unfinished / "nvidia" / part)
    (unfinished / "requirements.txt").write_text(requirements, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return folder
