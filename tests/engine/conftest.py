"""What the tests of the engine's torch-free parts share."""

from __future__ import annotations

import itertools

import pytest

from vllm.engine.sequence import Sequence
from vllm.sampling_params import SamplingParams


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
