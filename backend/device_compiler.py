"""The compiler of device code: an nvcc of this machine, or NVRTC of NVIDIA's wheels."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

from ci.errors import CiError
from ci.matrix import Cuda
from ci.native import toolkit_requirements

OLDEST = "11.8"  # the first that compiles for 8.9 and 9.0
# The two commands that docs/installation.md gives for a look at a toolkit.
CHECK = "compare `nvcc --version` and `${CUDA_HOME}/bin/nvcc --version`"
WITHOUT = "set VLLM_CUDA_VERSION=12.1 to build with NVIDIA's own wheels, whatever nvcc there is"


class ToolkitError(CiError):
    """A CUDA toolkit that cannot compile what is asked of it, or is not there."""


@dataclass(frozen=True)
class Compiler:
    """A compiler of device code: an nvcc, or cmake/nvrtcc.py, which takes the same options."""

    version: str  # of its CUDA: "12.1"
    title: str  # which it is and why, for people
    probe: Tuple[str, ...]  # a command that ends well for an architecture that it knows
    nvcc: Optional[Path] = None
    toolkit: Optional[Path] = None  # NVIDIA's wheels, where there is no nvcc

    def can_compile(self, target: str) -> bool:
        """Whether it knows ``sm_90a``, ``compute_80``; nvcc's own lists leave some out."""
        form = "-cubin" if target.startswith("sm_") else "-ptx"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "empty.cu").touch()
            command = [*self.probe, f"--gpu-architecture={target}", form]
            command += ["-o", "empty.out", "empty.cu"]
            return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Nvcc:
    """An nvcc that answers."""

    path: Path
    version: str
    chosen_by: str  # "CUDA_HOME" or "PATH"
    passed_over: str = ""  # what an nvcc elsewhere says, if it is of another version

    def check_age(self) -> None:
        """Raises ToolkitError for a toolkit that is too old for these kernels."""
        if _numbers(self.version) < _numbers(OLDEST):
            raise ToolkitError(
                f"{self.path} is of CUDA {self.version}, the kernels need {OLDEST} or newer",
                means=f"looked for nvcc by {self.chosen_by} and found that one{self.passed_over}",
                do=f"{CHECK}; set CUDA_HOME to a newer toolkit, or {WITHOUT}",
            )

    def compiler(self) -> Compiler:
        """It as the compiler of this build."""
        title = f"nvcc {self.version}, {self.path} (by {self.chosen_by}){self.passed_over}"
        return Compiler(self.version, title, (str(self.path), "--dryrun"), nvcc=self.path)


def nvrtc(cuda: Cuda, root: Path, why: str) -> Compiler:
    """NVRTC as this Python has it installed. Raises ToolkitError where it has not.

    why: what led to it, for people.
    """
    folder = _stable_toolkit(cuda, root, why)
    title = f"NVRTC {cuda.version} of NVIDIA's wheels ({why})"
    probe = (sys.executable, str(root / "cmake" / "nvrtcc.py"), f"--toolkit={folder}")
    return Compiler(cuda.version, title, probe, toolkit=folder)


def find_nvcc(environ: Mapping[str, str]) -> Optional[Nvcc]:
    """``$CUDA_HOME/bin/nvcc`` if that is set, else the ``nvcc`` on ``PATH``, else None.

    Raises ToolkitError for one that does not answer, with what was looked for, where, and what
    was found.
    """
    home = environ.get("CUDA_HOME")
    on_path = shutil.which("nvcc", path=environ.get("PATH", ""))
    if not home:
        if on_path is None:
            return None
        version = _version(on_path)
        if _is_version(version):
            return Nvcc(Path(on_path), version, "PATH")
        raise ToolkitError(
            f"the nvcc on PATH does not work: {on_path} {version}",
            means="looked for nvcc on PATH, since CUDA_HOME is not set",
            do=f"{CHECK}; set CUDA_HOME to a toolkit that works, or take {on_path} off PATH",
        )
    path = f"{home}/bin/nvcc"
    version = _version(path)
    elsewhere = ""
    if on_path is not None and os.path.realpath(on_path) != os.path.realpath(path):
        other = _version(on_path)
        if other != version:
            elsewhere = f"; the nvcc on PATH, {on_path}, {_says(other)} and is not used"
    if not _is_version(version):
        raise ToolkitError(
            f"CUDA_HOME is {home}, and {path} {version}",
            means=f"CUDA_HOME says which toolkit compiles the kernels, and goes first{elsewhere}",
            do=f"{CHECK}; correct CUDA_HOME, or unset it: then the nvcc on PATH is used, or "
            "NVIDIA's own wheels where there is none",
        )
    return Nvcc(Path(path), version, "CUDA_HOME", elsewhere)


def _stable_toolkit(cuda: Cuda, root: Path, why: str) -> Path:
    """A folder of the source tree with the NVRTC and headers that this environment has.

    pip puts them into an environment that it removes after the build; compile commands that named
    a folder there would differ each time, and every kernel would be compiled again.
    Raises ToolkitError where they are not installed.
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
        raise ToolkitError(
            f"NVRTC {cuda.version} is not installed",
            means=f"this build needs it ({why}), and looked among this Python's packages; "
            "nothing else here compiles the kernels",
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


def _version(path: str) -> str:
    """``12.1``; of what does not answer as an nvcc does, what it does instead."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
    except OSError as error:
        return "is not there" if isinstance(error, FileNotFoundError) else f"({error.strerror})"
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    if found and done.returncode == 0:
        return found.group(1)
    words = " ".join((done.stdout + done.stderr).split()) or "nothing"
    return f"ends with status {done.returncode} and says: {words[:200]}"


def _is_version(version: str) -> bool:
    return re.fullmatch(r"\d+\.\d+", version) is not None


def _says(version: str) -> str:
    return f"is of CUDA {version}" if _is_version(version) else version


def _numbers(version: str) -> List[int]:
    return [int(part) for part in version.split(".")]
