"""The backend on the oldest Python, with the scikit-build-core that pip finds for it and 0.12."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci import interpreters
from ci.environment import for_installing
from ci.wheel import reader
from tests.backend.conftest import copy_tree

OLDEST = "3.8"
PYTHON = interpreters.find([OLDEST])[OLDEST]
HOOKS = """\
import sys
sys.path.insert(0, 'backend/pep517')
import vllm_backend as hooks
print(hooks.get_requires_for_build_wheel())
hooks.build_sdist(sys.argv[1])
hooks.prepare_metadata_for_build_wheel(sys.argv[1])
hooks.build_wheel(sys.argv[1])
"""


@pytest.mark.skipif(PYTHON is None, reason=f"no python{OLDEST} on this machine")
@pytest.mark.parametrize("pin", ["scikit-build-core", "scikit-build-core<1"])
def test_every_hook(tmp_path: Path, pin: str) -> None:
    tree, out, venv = copy_tree(tmp_path / "tree"), tmp_path / "out", tmp_path / "venv"
    python = str(venv / "bin" / "python")
    # What pyproject.toml has pip install, and cmake and ninja from where these tests have them.
    for command in (["venv", "-p", str(PYTHON), str(venv)], ["pip", "install", "-p", python, pin]):
        uv = [sys.executable, "-m", "uv", "-q", *command]
        subprocess.run(uv, env=for_installing(), check=True)
    done = subprocess.run(
        [python, "-W", "error", "-c", HOOKS, str(out)],
        cwd=tree,
        env={
            **os.environ,
            "VLLM_TARGET_DEVICE": "empty",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = reader.read(out / "vllm-0.5.4+empty-py3-none-any.whl")
    prepared = out / "vllm-0.5.4+empty.dist-info" / "METADATA"
    assert prepared.read_bytes() == wheel.metadata
    assert b"\nLicense-Expression: Apache-2.0\n" in wheel.metadata
    assert b"\nLicense-File: NOTICE\n" in wheel.metadata
    assert (out / "vllm-0.5.4.tar.gz").is_file()
    refused = subprocess.run(
        [python, "-c", HOOKS, str(out)],
        cwd=tree,
        env={**os.environ, "VLLM_TARGET_DEVICE": "cuda", "VLLM_USE_PRECOMPILED": "1"},
        capture_output=True,
        text=True,
    )
    assert "were requested in a build with Python 3.8" in refused.stderr
    assert "Traceback" not in refused.stderr
