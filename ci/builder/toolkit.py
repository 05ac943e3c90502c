"""The compilers of device code, each in a stable folder: NVRTC and the headers it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from ci import environment, scratch
from ci.errors import CiError
from ci.matrix import Toolkit
from ci.native import toolkit_is_in, toolkit_requirements


class ToolkitNotFetched(CiError):
    """The pinned wheels of a CUDA toolkit could not be installed."""


def fetch(toolkits: Iterable[Toolkit], folder: Path, console: Console) -> dict[str, Path]:
    """Version → folder of each toolkit; one that is missing or has other pins is installed.

    Two CUDA versions have the same paths in their wheels, so each gets a folder of its own.
    """
    folders = {}
    for toolkit in toolkits:
        target = folders[toolkit.version] = folder / toolkit.version
        if not toolkit_is_in(target, toolkit):
            console.print(f"fetching NVRTC of CUDA {toolkit.version}")
            _install(toolkit, target)
    return folders


def _install(toolkit: Toolkit, target: Path) -> None:
    with scratch.folder(parent=target.parent) as temporary:
        unfinished = temporary / toolkit.version
        unfinished.mkdir()
        listing = unfinished / "requirements.txt"
        listing.write_text(toolkit_requirements(toolkit), encoding="utf-8")
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
            raise ToolkitNotFetched(
                f"pip could not install the toolkit of CUDA {toolkit.version}:\n"
                + done.stderr.strip(),
                means="its compiler and headers come from the wheels pinned in ci/matrix.toml",
                do="pip's message above says why; then run the same command again",
            )
        scratch.remove(target)
        unfinished.rename(target)
