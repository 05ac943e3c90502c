"""NVIDIA's wheels of each CUDA, unpacked into a stable folder: NVRTC and the headers it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ci import environment, scratch
from ci.errors import CiError
from ci.matrix import Cuda
from ci.native import toolkit_requirements


class ToolkitError(CiError):
    """The pinned wheels of a CUDA toolkit could not be had."""


def fetch(cudas: Sequence[Cuda], folder: Path, console: Console) -> dict[str, Path]:
    """The toolkit folder of each variant, made where it is not there or is of other pins.

    Two CUDA versions have the same paths in their wheels, so each gets a folder of its own.
    """
    toolkits = {cuda.variant: folder / cuda.variant for cuda in cudas}
    for cuda in cudas:
        listing = toolkits[cuda.variant] / "requirements.txt"
        wanted = toolkit_requirements(cuda)
        if not listing.is_file() or listing.read_text(encoding="utf-8") != wanted:
            console.print(f"fetching NVRTC and headers of CUDA {cuda.version}")
            _install(cuda, wanted, toolkits[cuda.variant])
    return toolkits


def _install(cuda: Cuda, requirements: str, target: Path) -> None:
    with scratch.folder(parent=target.parent) as temporary:
        unfinished = temporary / cuda.variant
        unfinished.mkdir()
        listing = unfinished / "requirements.txt"
        listing.write_text(requirements, encoding="utf-8")
        options = ["--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options]
        command += ["--disable-pip-version-check", "--target", str(unfinished)]
        done = subprocess.run(
            [*command, "--requirement", str(listing)],
            env=environment.for_installing(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ToolkitError(
                f"pip could not install the toolkit of CUDA {cuda.version}:\n{done.stderr.strip()}",
                means="its compiler and headers come from the wheels pinned in ci/matrix.toml",
                do="pip's words above are the cause; the same command goes on from here",
            )
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
