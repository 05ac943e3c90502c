"""Tries installations: a fresh environment, the documented command, the check."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ci.errors import CiError
from ci.matrix import Matrix
from ci.trial.plan import Cell

CHECK = Path(__file__).with_name("check.py")

# One environment compiles Python files while another waits for the network.
PARALLEL = 2

# The last lines of a failed step are where pip and Python say why.
TAIL = 15


class TrialError(CiError):
    """An installation by a documented command failed, or what it installed is wrong."""


class Status(Enum):
    """How an installation ended, in the words of the report."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Outcome:
    """What became of one cell of the trial."""

    cell: Cell
    status: Status
    detail: str  # what was checked, why it failed, or why it was not tried
    seconds: float = 0.0  # of the `pip install` alone


def run(
    cells: Sequence[Cell], matrix: Matrix, report: Callable[[Outcome], None]
) -> tuple[Outcome, ...]:
    """Tries every cell, two at a time, and returns the outcomes in the order of `cells`.

    report: called with each outcome as it comes, from the thread that made it.
    """

    def attempt(cell: Cell) -> Outcome:
        outcome = _try(cell, matrix)
        report(outcome)
        return outcome

    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(attempt, cell) for cell in cells]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _try(cell: Cell, matrix: Matrix) -> Outcome:
    if cell.interpreter is None:
        return Outcome(cell, Status.NOT_TESTED, f"no python{cell.python} on this machine")
    with tempfile.TemporaryDirectory(prefix="vllm-trial-") as scratch:
        try:
            return _install_and_check(cell, cell.interpreter, matrix, Path(scratch))
        except TrialError as error:
            return Outcome(cell, Status.FAILED, str(error))


def _install_and_check(cell: Cell, interpreter: Path, matrix: Matrix, scratch: Path) -> Outcome:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    environment = scratch / "venv"
    python = environment / "bin" / "python"
    _step([*uv, "venv", "--seed", "--python", interpreter, environment], scratch)
    # What the check computes its references with; none of the library's own dependencies.
    _step([*uv, "pip", "install", "--python", python, "numpy"], scratch)
    # Only the torch of the matrix: a newer one would bring gigabytes of CUDA packages.
    constraints = scratch / "constraints.txt"
    constraints.write_text(f"torch=={matrix.torch_version}\n", encoding="utf-8")

    options = [] if cell.with_dependencies else ["--no-deps"]
    start = time.monotonic()
    _step(
        [python, "-m", "pip", "install", *options, cell.offer.url],
        scratch,
        PIP_CONSTRAINT=str(constraints),
    )
    seconds = time.monotonic() - start

    wheel = cell.offer.wheel
    expected = {
        "version": wheel.version,
        "commit": cell.offer.commit,
        "url": cell.offer.url,
        "sha256": wheel.sha256,
    }
    # Warnings are errors: an installed library that warns by being imported is not finished.
    answer = _step([python, "-W", "error", CHECK, json.dumps(expected)], scratch)
    report = _step([environment / "bin" / "vllm", "collect-env"], scratch)
    if cell.offer.commit not in report:
        raise TrialError(f"`vllm collect-env` does not name commit {cell.offer.commit}:\n{report}")
    return Outcome(cell, Status.PASSED, ", ".join(json.loads(answer)), seconds)


def _step(command: Sequence[object], scratch: Path, **variables: str) -> str:
    """Runs one command in an empty folder and returns what it printed."""
    arguments = [str(part) for part in command]
    # What would leak this process's own packages into the fresh environment.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        arguments,
        cwd=scratch,
        env={**inherited, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-TAIL:])
        raise TrialError(f"{shlex.join(arguments)} exited with {done.returncode}\n{tail}")
    return done.stdout
