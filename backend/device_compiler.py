"""Finds the compiler of device code: an nvcc on this machine, or NVRTC from NVIDIA's wheels."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

from ci import scratch
from ci.errors import CiError
from ci.matrix import Toolkit
from ci.native import toolkit_is_in, toolkit_requirements

OLDEST = "11.8"  # the first that supports 8.9 and 9.0
# The two commands that docs/installation.md recommends to check a toolkit.
CHECK = "compare `nvcc --version` and `${CUDA_HOME}/bin/nvcc --version`"
WITHOUT = "set VLLM_CUDA_VERSION=12.1 to build with NVIDIA's wheels instead of an nvcc"


class ToolkitError(CiError):
    """A CUDA toolkit is missing, broken, or too old."""


@dataclass(frozen=True)
class Compiler:
    """A compiler of device code: an nvcc, or cmake/nvrtcc.py, which takes the same options."""

    version: str  # of its CUDA: "12.1"
    title: str  # which compiler, and why it was chosen; for people
    probe: Tuple[str, ...]  # a command that succeeds for a supported architecture
    identity: str = ""  # identifies its build
    nvcc: Optional[Path] = None
    toolkit: Optional[Path] = None  # folder of NVIDIA's wheels, without an nvcc

    def can_compile(self, target: str) -> bool:
        """Whether it supports ``sm_90a``, ``compute_80``, by trying: its lists are incomplete."""
        form = "-cubin" if target.startswith("sm_") else "-ptx"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "empty.cu").touch()
            command = [*self.probe, f"--gpu-architecture={target}", form]
            command += ["-o", "empty.out", "empty.cu"]
            return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Nvcc:
    """A working nvcc."""

    path: Path
    version: str
    chosen_by: str  # "CUDA_HOME" or "PATH"
    build: str  # the last line of its --version
    passed_over: str = ""  # about the nvcc on PATH, if it has another version

    def check_age(self) -> None:
        """Raises ToolkitError for a toolkit that is too old for these kernels."""
        if _numbers(self.version) < _numbers(OLDEST):
            raise ToolkitError(
                f"{self.path} has CUDA {self.version}; the kernels need {OLDEST} or newer",
                means=f"this nvcc was found by {self.chosen_by}{self.passed_over}",
                do=f"{CHECK}; set CUDA_HOME to a newer toolkit, or {WITHOUT}",
            )

    def compiler(self) -> Compiler:
        """This nvcc as a `Compiler`."""
        title = f"nvcc {self.version}, {self.path} (by {self.chosen_by}){self.passed_over}"
        probe, build = (str(self.path), "--dryrun"), f"nvcc, {self.build}"
        return Compiler(self.version, title, probe, build, nvcc=self.path)


def nvrtc(toolkit: Toolkit, root: Path, why: str) -> Compiler:
    """NVRTC from this tree or this Python's packages. Raises ToolkitError if neither has it.

    why: the reason for using it, for people.
    """
    folder = _stable_toolkit(toolkit, root, why)
    title = f"NVRTC {toolkit.version} of NVIDIA's wheels ({why})"
    probe = (sys.executable, str(root / "cmake" / "nvrtcc.py"), f"--toolkit={folder}")
    build = f"NVRTC, {' '.join(pin.requirement for pin in toolkit.pins)}"
    return Compiler(toolkit.version, title, probe, build, toolkit=folder)


def toolkit_folder(toolkit: Toolkit, root: Path) -> Path:
    """The folder of a toolkit in the tree, for release and source builds."""
    return root / "build" / "toolkit" / toolkit.version


def find_nvcc(environ: Mapping[str, str]) -> Optional[Nvcc]:
    """``$CUDA_HOME/bin/nvcc`` if that is set, else the ``nvcc`` on ``PATH``, else None.

    Raises ToolkitError for one that does not work, with where it was found and what it printed.
    """
    home = environ.get("CUDA_HOME")
    on_path = shutil.which("nvcc", path=environ.get("PATH", ""))
    if not home:
        if on_path is None:
            return None
        version, build = _ask(on_path)
        if _is_version(version):
            return Nvcc(Path(on_path), version, "PATH", build)
        raise ToolkitError(
            f"the nvcc on PATH does not work: {on_path} {version}",
            means="looked for nvcc on PATH, since CUDA_HOME is not set",
            do=f"{CHECK}; set CUDA_HOME to a working toolkit, or remove {on_path} from PATH",
        )
    path = f"{home}/bin/nvcc"
    version, build = _ask(path)
    elsewhere = ""
    if on_path is not None and os.path.realpath(on_path) != os.path.realpath(path):
        other, _ = _ask(on_path)
        if other != version:
            elsewhere = f"; the nvcc on PATH, {on_path}, {_says(other)} and is not used"
    if not _is_version(version):
        raise ToolkitError(
            f"CUDA_HOME is {home}, and {path} {version}",
            means=f"CUDA_HOME takes precedence over PATH for the toolkit{elsewhere}",
            do=f"{CHECK}; correct CUDA_HOME, or unset it to use the nvcc on PATH, or "
            "NVIDIA's wheels if there is none",
        )
    return Nvcc(Path(path), version, "CUDA_HOME", build, elsewhere)


def _stable_toolkit(toolkit: Toolkit, root: Path, why: str) -> Path:
    """Copies this environment's NVRTC and headers to a folder of the source tree.

    pip installs them in a temporary environment. Compile commands with a path in it would differ in
    each build, and every kernel would be compiled again.
    Raises ToolkitError if they are not installed.
    """
    folder = toolkit_folder(toolkit, root)
    if toolkit_is_in(folder, toolkit):
        return folder
    found = {pin: _find_distribution(pin.project) for pin in toolkit.pins}
    wrong = [
        f"{pin.requirement} ({f'{dist.version} is' if dist else 'nothing is'} installed)"
        for pin, dist in found.items()
        if dist is None or dist.version != pin.version
    ]
    if wrong:
        pins = " ".join(pin.requirement for pin in toolkit.pins)
        raise ToolkitError(
            f"the pinned NVRTC {toolkit.version} is not installed: no {', no '.join(wrong)}",
            means=f"this build needs it ({why}), in this Python's environment; "
            "no other compiler for kernels was found",
            do="build without --no-build-isolation, set CUDA_HOME, or run: pip install " + pins,
        )
    with scratch.folder(parent=folder.parent) as temporary:
        unfinished = temporary / folder.name
        for dist in filter(None, found.values()):
            # Paths are kept as in the wheel: CUDA 13 has other folders than 12.
            for file in dist.files or ():
                if file.parts[0] == "nvidia":
                    target = unfinished / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(str(file.locate()), target)
        (unfinished / "requirements.txt").write_text(
            toolkit_requirements(toolkit), encoding="utf-8"
        )
        scratch.remove(folder)
        unfinished.rename(folder)
    return folder


def _find_distribution(project: str) -> Optional[metadata.Distribution]:
    try:
        return metadata.distribution(project)
    except metadata.PackageNotFoundError:
        return None


def _ask(path: str) -> Tuple[str, str]:
    """The version, ``12.1``, and the last line of --version; or what failed, and nothing."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return "does not exist" if missing else f"({error.strerror})", ""
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    if found and done.returncode == 0:
        return found.group(1), done.stdout.strip().splitlines()[-1]
    words = " ".join((done.stdout + done.stderr).split()) or "nothing"
    return f"exits with status {done.returncode} and prints: {words[:200]}", ""


def _is_version(version: str) -> bool:
    return re.fullmatch(r"\d+\.\d+", version) is not None


def _says(version: str) -> str:
    return f"has CUDA {version}" if _is_version(version) else version


def _numbers(version: str) -> List[int]:
    return [int(part) for part in version.split(".")]
