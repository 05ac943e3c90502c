"""A rank that dies, stalls or raises ends the others, which say why; nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.waiting import PATIENCE
from tests.worker.ranks.faults import (
    FAULTS,
    PROGRAM_FAULTS,
    Fault,
    Program,
    check_record,
    environment,
    run,
    run_program,
)


def name_of(fault):
    return f"rank {fault.rank} {fault.what} {fault.when}"


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_engine_ends_with_the_error_of_the_rank(tiny, fault):
    said, _ = run(fault, tiny("qwen3").folder)
    assert re.match(fault.says, said)


@pytest.mark.parametrize("fault", PROGRAM_FAULTS, ids=name_of)
def test_without_rank_0_the_others_end(tiny, fault):
    said, _ = run_program(fault, tiny("qwen3").folder)
    assert re.search(fault.says, said)


def test_ctrl_c_leaves_nothing(tiny):
    interrupt(tiny("qwen3").folder, "cpu")


def interrupt(model, device):
    nothing = Fault(0, "nothing", "in a step", "")
    with environment(nothing), Program(model, device) as program:
        for pid in (program.process.pid, *program.others):  # no shared memory that has a name
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            assert not [each for each in maps if "/dev/shm/" in each and "(deleted)" not in each]
        os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does
        status = program.process.wait(PATIENCE)
        program.wait_for_others()
        said = program.end()
    assert status == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "ends: " not in said


@pytest.mark.parametrize("name", ["rank_faults"])
def test_the_records_are_of_these_faults(name):
    check_record(name, [*FAULTS, *PROGRAM_FAULTS])
