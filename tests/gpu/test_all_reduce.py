"""The all-reduce kernels: ranks are processes, on as many GPUs as available."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.gpu.peer_ranks import run_ranks


@pytest.mark.parametrize("size", [2, 4])
def test_sums_are_right_and_the_same_in_all_ranks(size):
    first, *others = run_ranks(["sums", "many_rows", "graphs", "special"], size)
    assert all(other == first for other in others)


def test_a_rank_that_nobody_answers_ends_when_told():
    run_ranks(["stop"], 2)
