"""The arithmetic under the kernels: conversions exact or rightly rounded, exp within 1.01 ulp."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cpu.conftest import ISA_FLAGS
from tests.cpu.test_isa import available


@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_conversions_and_exp(isa, compile_cpp):
    if isa not in available():
        pytest.skip(f"this machine has no {isa}")
    program = compile_cpp([Path(__file__).with_name("check_math.cpp")], "-O2", *ISA_FLAGS[isa])
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    found = dict(line.split(": ") for line in done.stdout.splitlines())
    assert float(found.pop("exp")) <= 1.01
    assert found == dict.fromkeys(
        [
            *("half loads", "half stores", "half nans"),
            *("bfloat16 loads", "bfloat16 stores", "bfloat16 nans"),
            "tails",
        ],
        "0",
    )
