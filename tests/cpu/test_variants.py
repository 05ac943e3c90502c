"""The op tests once more, on each instruction set and on other numbers of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cpu.test_isa import FLAGS, available

ROOT = Path(__file__).parents[2]

# What the tests in this process do not cover: by default they take the best set, and a thread for
# each processor.
VARIANTS = [(isa, threads) for isa, threads in zip(FLAGS, (1, 3, 3))]


@pytest.mark.parametrize(("isa", "threads"), VARIANTS)
def test_the_op_tests_pass(isa, threads):
    if isa not in available():
        pytest.skip(f"this machine has no {isa}")
    environment = {
        **os.environ,
        "VLLM_CPU_ISA": isa,
        "VLLM_CPU_THREADS": str(threads),
        "VLLM_TEST_LIBRARIES": "numpy",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/ops"]
    done = subprocess.run(
        [*command, "--ignore=tests/ops/test_compile.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " passed" in done.stdout
