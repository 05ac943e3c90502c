"""`ci.interpreters` against real interpreters and look-alikes."""

import os
import sys
from pathlib import Path

import pytest

from ci import interpreters

HERE = "{}.{}".format(*sys.version_info[:2])


def look_alike(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def real(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.realpath(sys.executable))
    return path


def test_finds_on_path(tmp_path: Path) -> None:
    python = real(tmp_path / "bin" / f"python{HERE}")
    env = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    assert interpreters.find([HERE], env) == {HERE: python}


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("HOME", f".pyenv/versions/{HERE}.1/bin"),
        ("HOME", f".local/share/uv/python/cpython-{HERE}.1/bin"),
        ("PYENV_ROOT", f"versions/{HERE}.1/bin"),
        ("UV_PYTHON_INSTALL_DIR", f"cpython-{HERE}.1/bin"),
    ],
)
def test_finds_what_a_version_manager_keeps(tmp_path: Path, variable: str, folder: str) -> None:
    python = real(tmp_path / folder / f"python{HERE}")
    assert interpreters.find([HERE], {"PATH": "", variable: str(tmp_path)}) == {HERE: python}


def test_skips_a_shim_that_fails(tmp_path: Path) -> None:
    """pyenv puts `python3.X` on PATH for every version it has; most of them only exit with 127."""
    shim = look_alike(tmp_path / "shims" / f"python{HERE}", "exit 127")
    python = real(tmp_path / ".pyenv" / "versions" / HERE / "bin" / f"python{HERE}")
    env = {"PATH": str(shim.parent), "HOME": str(tmp_path)}
    assert interpreters.find([HERE], env) == {HERE: python}


@pytest.mark.parametrize("script", ["echo 3.8 pypy", "echo 3.9 cpython", "echo", "sleep 0; exit 1"])
def test_refuses_another_version_or_implementation(tmp_path: Path, script: str) -> None:
    shim = look_alike(tmp_path / "python3.8", script)
    env = {"PATH": str(shim.parent), "HOME": str(tmp_path)}
    assert interpreters.find(["3.8"], env) == {"3.8": None}


def test_says_none_for_a_version_that_is_not_there(tmp_path: Path) -> None:
    assert interpreters.find(["3.8", "9.9"], {"PATH": "", "HOME": str(tmp_path)}) == {
        "3.8": None,
        "9.9": None,
    }
