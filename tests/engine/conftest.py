"""What the tests of the engine share.

Where there is no torch (Python 3.8 and 3.13 in this project's matrix of tests), the part of the
engine that needs none is tested.
"""

from __future__ import annotations

import importlib.util
import itertools

import pytest

from vllm.engine.sequence import Sequence
from vllm.sampling_params import SamplingParams

_NEED_TORCH = [
    f"test_{name}.py"
    for name in ("ahead", "async_engine", "constraints", "faults", "llm_engine", "priority")
]
collect_ignore = [] if importlib.util.find_spec("torch") else _NEED_TORCH


def pytest_report_header():
    return f"no torch: not collected are {', '.join(_NEED_TORCH)}" if collect_ignore else None


@pytest.fixture(scope="session")
def make_sequence():
    """make_sequence(prompt_token_ids, max_tokens=16, **sampling parameters) -> Sequence."""
    ids = itertools.count()

    def make(prompt, max_tokens=16, *, eos_token_ids=(), **params):
        return Sequence(
            next(ids),
            prompt,
            SamplingParams(max_tokens=max_tokens, **params),
            max_tokens=max_tokens,
            eos_token_ids=frozenset(eos_token_ids),
        )

    return make
