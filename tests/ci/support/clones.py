"""Clones of this repository, in which its commands are typed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ci.wheel import symbols
from tests.ci.support import repository
from tests.ci.support.toolchain import ROOT

ABI3 = "vllm-{}-cp38-abi3-manylinux1_x86_64.whl"
# Families of kernels of which an arch takes NVRTC a minute; those of all others, seconds.
SLOW = ("attention", "comm", "gemm", "sampling")


def clone(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "-q", str(source), str(target)], check=True)
    return target


def commit(repo: Path) -> None:
    repository.run(repo, "commit", "-q", "-a", "-m", "a change")


def remove_slow_kernels(tree: Path) -> None:
    """For tests of how kernels are built: `make nightly` and `make cibuildwheel` build all."""
    for family in SLOW:
        shutil.rmtree(tree / "csrc" / "kernels" / family)


def run(repo: Path, *arguments: str, mask: int = 0o022, **environ: str) -> str:
    """``python -m ci build`` in `repo`; what it prints."""
    return ci(repo, "build", *arguments, mask=mask, **environ)


def ci(repo: Path, *arguments: str, mask: int = 0o022, **environ: str) -> str:
    """``python -m ci …`` in `repo`; libc++ of the release is compiled once for all clones."""
    command = [sys.executable, "-m", "ci", *arguments]
    environ = {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / "build" / "zig"), **environ}
    done = subprocess.run(
        command,
        cwd=repo,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=mask,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def hashes(repo: Path) -> dict[str, str]:
    wheels = sorted((repo / "wheelhouse").glob("*.whl"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels}


def debug_symbols(repo: Path) -> dict[str, str]:
    """Build-id → hash of its debug symbols, as a build left them."""
    files = (repo / "wheelhouse").glob(symbols.name_of("*"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
