"""The library on the oldest and the newest Python, in environments of their own.

Of torch there are only builds of gigabytes for them, so it is the part without torch: scheduling,
tokenizers and detokenization, configuration, what the command line refuses by itself, CPU ops on
NumPy arrays. What needs torch is compiled, which finds syntax that is too new.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vllm
from ci import interpreters, matrix

ROOT = Path(__file__).parent.parent
TESTED = [
    "tests/engine",
    "tests/entrypoints",
    "tests/models/test_hub.py",
    "tests/ops",
    "tests/runtime",
    "tests/text",
    *(f"tests/test_{name}.py" for name in ("config", "engine_args", "foreign", "numbers")),
    *(f"tests/test_{name}.py" for name in ("beam_search", "sampling_params")),
    *(f"tests/test_{name}.py" for name in ("collect_env", "import", "platform", "version")),
]
UV = [str(Path(sys.executable).with_name("uv")), "--no-config"]


def oldest_and_newest():
    found = interpreters.find(matrix.load().trial_pythons)
    there = [version for version, path in found.items() if path is not None]
    return {version: found[version] for version in (there[0], there[-1])}


PYTHONS = oldest_and_newest()


def run(*command, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package that is installed here, alone on a path: one compiled part serves them all."""
    from vllm import _C

    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(vllm.__file__).parent, folder / "vllm", ignore=ignored)
    shutil.copy(_C.__file__, folder / "vllm")
    return folder


def dependencies():
    """What the package needs beside torch."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("others = ["))
    listed = [part.strip(' "') for part in line.partition("[")[2].rstrip("]").split(",")]
    return [item for item in listed if Requirement(item)]


@pytest.mark.parametrize("version", PYTHONS)
def test_the_part_without_torch(version, package, tmp_path):
    environment = tmp_path / "environment"
    run(*UV, "venv", "--quiet", "--python", PYTHONS[version], environment)
    python = environment / "bin/python"
    # Nothing is built: numpy and ml-dtypes come only where there are wheels.
    install = [*UV, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", python]
    run(*install, "pytest", "hypothesis", "numpy", "ml-dtypes", "httpx", *dependencies())
    run(python, "-W", "error", "-m", "compileall", "-q", package / "vllm")
    told = run(python, "-m", "pytest", "-p", "no:cacheprovider", *TESTED, PYTHONPATH=str(package))
    assert "no torch: not collected are" in told
    assert " passed" in told.splitlines()[-1]
