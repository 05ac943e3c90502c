"""Finds the CPython interpreters on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Optional

_PROBE = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"


def find(versions: Iterable[str], env: Mapping[str, str] = os.environ) -> dict[str, Optional[Path]]:
    """The first working CPython of each version ("3.8"), or None where there is none."""
    return {version: _find_one(version, env) for version in versions}


def _find_one(version: str, env: Mapping[str, str]) -> Optional[Path]:
    return next((path for path in _candidates(version, env) if _is(version, path)), None)


def _candidates(version: str, env: Mapping[str, str]) -> Iterator[Path]:
    """`python3.X` on PATH, then those in the folders of pyenv and uv."""
    name = f"python{version}"
    on_path = shutil.which(name, path=env.get("PATH", ""))
    if on_path:
        yield Path(on_path)
    home = Path(env.get("HOME", "/nonexistent"))
    pyenv = Path(env.get("PYENV_ROOT", home / ".pyenv")) / "versions"
    uv = Path(env.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python"))
    for folder in (pyenv, uv):
        yield from sorted(folder.glob(f"*/bin/{name}"))


def _is(version: str, path: Path) -> bool:
    """Runs it to find out: a version manager's `python3.X` on PATH may exist and fail."""
    try:
        found = subprocess.run(
            [path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and found.stdout.split() == [version, "cpython"]
