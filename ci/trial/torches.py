"""Runs the op tests with one wheel and each of several versions of torch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ci import environment, interpreters, scratch
from ci.errors import CiError
from ci.matrix import TorchTrial

# Needed by the tests besides torch, which restricts the version of NumPy.
REQUIREMENTS = ("pytest", "hypothesis", "ml-dtypes", "numpy")
TESTS = ("-q", "-p", "no:cacheprovider", "-m", "not gpu", "tests/ops")
IDENTITY = """\
import torch, vllm
table = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
print(f"torch {torch.__version__}; {'DLPack table' if table else 'no DLPack table'}; "
      f"vllm {vllm.__version__}")
"""


class TorchTrialError(CiError):
    """An environment with that torch cannot be created."""


@dataclass(frozen=True)
class TorchOutcome:
    """The result of the op tests with one version of torch."""

    trial: TorchTrial
    passed: bool
    identity: str  # versions of torch and vllm, and whether torch has DLPack's table
    result: str  # pytest's last line, or why it did not run
    output: str = ""  # pytest's whole output


def run(trial: TorchTrial, wheel: Path, repo: Path) -> TorchOutcome:
    """Runs the op tests of `repo` in a fresh environment with torch and `wheel`.

    The environment takes several gigabytes, and is removed afterwards. Raises TorchTrialError.
    """
    interpreter = interpreters.find([trial.python])[trial.python]
    if interpreter is None:
        return TorchOutcome(trial, False, "", f"not tested: no python{trial.python} here")
    with scratch.folder("vllm-torch-") as folder:
        python = folder / "venv" / "bin" / "python"
        # pip, because it reads this machine's pip.conf, which may name an index for torch.
        # Uncached.
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--prefer-binary"]
        _must([str(interpreter), "-m", "venv", str(folder / "venv")], folder)
        _must([*pip, *_requirements(trial)], folder)
        _must([*pip, "--no-deps", str(wheel)], folder)
        identity = _must([str(python), "-c", IDENTITY], folder).strip()
        done = _start([str(python), "-m", "pytest", *TESTS], repo)
    lines = done.stdout.strip().splitlines()
    last = lines[-1] if lines else "nothing"
    # pytest exits with 0 even if all tests were skipped.
    passed = done.returncode == 0 and re.search(r"\b[1-9]\d* passed", last) is not None
    return TorchOutcome(trial, passed, identity, last, done.stdout)


def _requirements(trial: TorchTrial) -> list[str]:
    # torch before 2.3 was compiled against NumPy 1.
    old = tuple(map(int, trial.version.split(".")[:2])) < (2, 3)
    others = ["numpy<2" if old and name == "numpy" else name for name in REQUIREMENTS]
    return [f"torch=={trial.version}", *others]


def _must(command: Sequence[str], cwd: Path) -> str:
    done = _start(command, cwd)
    if done.returncode:
        raise TorchTrialError(f"`{' '.join(command)}` failed:\n{done.stdout.strip()}")
    return done.stdout


def _start(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment.for_installing(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
