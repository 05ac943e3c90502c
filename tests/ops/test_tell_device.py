"""A number in memory that a GPU polls."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vllm import ops


def test_it_is_written_and_nothing_else():
    gate = np.array([1, -7])
    for number in (2, 1 << 40, -3):
        ops.tell_device(gate, number)
        assert gate.tolist() == [number, -7]


@pytest.mark.parametrize(
    ("gate", "kind", "message"),
    [
        (np.zeros(1, np.int64), ValueError, "'gate' has shape (1,); it takes (2,)"),
        (np.zeros((2, 1), np.int64), ValueError, "'gate' has shape (2, 1)"),
        (np.zeros(2, np.int32), TypeError, "'gate'"),
    ],
)
def test_what_is_refused(gate, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        ops.tell_device(gate, 1)


def test_a_wait_needs_a_gpu():
    with pytest.raises(ValueError, match="'due' is on the CPU; it takes a tensor on a GPU"):
        ops.wait_for_host(np.zeros(2, np.int64), np.zeros(1, np.int64), 1)
