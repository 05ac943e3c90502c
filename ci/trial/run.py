"""Tries installations: a fresh environment, the documented command, then `check.py`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ci import environment, scratch
from ci.errors import CiError
from ci.matrix import Matrix
from ci.trial.plan import Trial

CHECK = Path(__file__).with_name("check.py")

# Two at a time: one environment compiles Python files while another waits for the network.
PARALLEL = 2

# Lines of a failed step's output to show: pip and Python put the reason at the end.
TAIL = 15


class TrialError(CiError):
    """A documented command failed, or installed something wrong."""


class Status(Enum):
    """The result of an installation, as the report shows it."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Outcome:
    """The result of one trial."""

    trial: Trial
    status: Status
    detail: str  # what was checked, or why it failed or was not tried
    seconds: float = 0.0  # of the `pip install` alone


def run(
    trials: Sequence[Trial], matrix: Matrix, report: Callable[[Outcome], None]
) -> tuple[Outcome, ...]:
    """Runs every trial, two at a time, and returns the outcomes in the order of `trials`.

    report: called with each outcome as soon as it is known, from a worker thread.
    """

    def attempt(trial: Trial) -> Outcome:
        outcome = _run(trial, matrix)
        report(outcome)
        return outcome

    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(attempt, trial) for trial in trials]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _run(trial: Trial, matrix: Matrix) -> Outcome:
    if trial.interpreter is None:
        return Outcome(trial, Status.NOT_TESTED, f"no python{trial.python} on this machine")
    with scratch.folder("vllm-trial-") as folder:
        try:
            return _install_and_check(trial, trial.interpreter, matrix, folder)
        except TrialError as error:
            return Outcome(trial, Status.FAILED, str(error))


def _install_and_check(trial: Trial, interpreter: Path, matrix: Matrix, folder: Path) -> Outcome:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    venv = folder / "venv"
    python = venv / "bin" / "python"
    _step([*uv, "venv", "--seed", "--python", interpreter, venv], folder)
    # For the check's reference results; not a dependency of the library.
    _step([*uv, "pip", "install", "--python", python, "numpy"], folder)
    # Exactly the torch of the matrix: a newer one would download gigabytes of CUDA packages.
    constraints = folder / "constraints.txt"
    constraints.write_text(f"torch=={matrix.torch_version}\n", encoding="utf-8")

    options = [] if trial.with_dependencies else ["--no-deps"]
    start = time.monotonic()
    _step(
        [python, "-m", "pip", "install", *options, trial.offer.url],
        folder,
        PIP_CONSTRAINT=str(constraints),
    )
    seconds = time.monotonic() - start

    wheel = trial.offer.wheel
    expected = {
        "version": wheel.version,
        "commit": trial.offer.commit,
        "url": trial.offer.url,
        "sha256": wheel.sha256,
    }
    # Warnings are errors: importing an installed library must not warn.
    answer = _step([python, "-W", "error", CHECK, json.dumps(expected)], folder)
    report = _step([venv / "bin" / "vllm", "collect-env"], folder)
    if trial.offer.commit not in report:
        raise TrialError(f"`vllm collect-env` does not name commit {trial.offer.commit}:\n{report}")
    return Outcome(trial, Status.PASSED, ", ".join(json.loads(answer)), seconds)


def _step(command: Sequence[object], folder: Path, **variables: str) -> str:
    """Runs a command in an empty folder; returns its output."""
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**environment.for_installing(), **variables},
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
