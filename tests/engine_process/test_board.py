"""Memory that several processes count in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vllm.engine.llm_engine import EngineLoad
from vllm.engine_process.board import SharedMemory
from vllm.engine_process.loads import Loads

WRITE = """
import sys
from vllm.engine_process.board import SharedMemory
memory = SharedMemory(2, 3, int(sys.argv[1]))
board = memory.board("places", 2)
board.mine[1] += 2.5
memory.integers("prefixes")[7] = -3
"""


@pytest.fixture
def shared():
    fd = SharedMemory.create_file()
    yield fd
    os.close(fd)


def test_another_process_reads_what_one_has_written(shared):
    memory = SharedMemory(1, 3, shared)
    board = memory.board("places", 2)
    board.mine[1] = 1
    subprocess.run([sys.executable, "-c", WRITE, str(shared)], pass_fds=[shared], check=True)
    assert board.total(1) == 3.5
    assert board.total(0) == 0
    assert [board.row(writer)[1] for writer in range(3)] == [0, 1, 2.5]
    assert memory.integers("prefixes")[7] == -3
    assert memory.board("metrics", 5).total(1) == 0  # a region of its own


def test_a_process_alone_has_memory_of_its_own():
    one, other = SharedMemory().board("places", 1), SharedMemory().board("places", 1)
    one.mine[0] = 4
    assert (one.total(0), other.total(0)) == (4, 0)


def test_too_many_numbers_are_refused():
    with pytest.raises(ValueError, match="300 processes × 1000 numbers are too many"):
        SharedMemory(0, 300).board("metrics", 1000)


def test_the_latest_load_counts_and_sequences_are_added(shared):
    one, other = (Loads(SharedMemory(writer, 2, shared), 2) for writer in range(2))
    one.heard(1, 10.0, EngineLoad(3, 4, 0.5))
    other.heard(1, 11.0, EngineLoad(1, 0, 0.25))
    for each in (one, other):
        assert each.latest(1) == EngineLoad(1, 0, 0.25)
        assert each.latest(0) == EngineLoad(0, 0, 0.0)
    one.has(0, 2)
    other.has(0, 3)
    one.has(1, 1)
    assert [other.num_sequences(engine) for engine in range(2)] == [5, 1]
    one.forget(1)
    other.forget(1)
    assert other.latest(1) == EngineLoad(0, 0, 0.0)
    assert [other.num_sequences(engine) for engine in range(2)] == [5, 0]
