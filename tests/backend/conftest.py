"""Fake toolkits (scripts), and the backend's hooks in a separate process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ci import matrix
from ci.matrix import Matrix

ROOT = Path(__file__).parents[2]

# From the folder of a tree, as a frontend does.
IMPORT = "import sys; sys.path.insert(0, 'backend/pep517'); import vllm_backend; \
from backend import hooks as b"

# Makes a toolkit whose nvcc is a script, and the environment that leads to it.
MakeNvcc = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def the_matrix() -> Matrix:
    return matrix.load()


@pytest.fixture
def nvcc(tmp_path: Path) -> MakeNvcc:
    """Makes an nvcc that says a version and knows some architectures."""

    def make(
        version: str, codes: str = "75 80 86 89 90 90a", *, home: bool = True
    ) -> dict[str, str]:
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        script = folder / "nvcc"
        script.write_text(
            "#!/bin/sh\n"
            f'[ "$1" = --version ] && echo "Cuda compilation tools, release {version}, V"\n'
            'case "$2" in --gpu-architecture=*) ;; *) exit 0 ;; esac\n'
            f'for code in {codes}; do [ "${{2##*_}}" = $code ] && exit 0; done\n'
            "exit 1\n"
        )
        script.chmod(0o755)
        return {"CUDA_HOME": str(folder.parent)} if home else {"PATH": str(folder)}

    return make


def copy_tree(target: Path) -> Path:
    """This tree without git, as an unpacked sdist has it."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def call_hook(tree: Path, hook: str, out: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Calls a hook of the backend like a build frontend, in a separate process."""
    code = f"{IMPORT}; print(b.{hook})"
    command = [sys.executable, "-c", code.replace("OUT", repr(str(out)))]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=tree, env={**os.environ, **path, **environ}, capture_output=True, text=True
    )
