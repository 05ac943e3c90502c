"""Whole models on CUDA: in float32, token for token what transformers gives on the CPU."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.models.support import FAMILIES, prompts_of  # noqa: E402
from tests.models.test_parity import (  # noqa: E402
    FEATURES,
    GREEDY,
    LENGTHS,
    NUM_TOKENS,
    make_llm,
    poison,
    tokens_of,
)

SOME = ["default", "chunks of 29", "blocks of 7", "preemption"]


@pytest.fixture(autouse=True)
def _exact_products():
    """TF32 would round the factors of float32 products to 10 bits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("feature", SOME)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(tiny, family, feature):
    prompts = prompts_of(LENGTHS)
    expected = [tiny(family).greedy(prompt, NUM_TOKENS) for prompt in prompts]
    llm = make_llm(tiny(family).folder, device="cuda", **FEATURES[feature])
    poison(llm)
    assert tokens_of(llm.generate(prompts, GREEDY)) == expected


def test_seeded_draws_are_those_of_the_cpu(tiny):
    from vllm.sampling_params import SamplingParams

    params = SamplingParams(temperature=0.8, top_p=0.9, top_k=50, seed=7, max_tokens=NUM_TOKENS)
    prompts = prompts_of(LENGTHS)
    folder = tiny("llama2").folder
    drawn = [
        tokens_of(make_llm(folder, device=device).generate(prompts, params))
        for device in ("cpu", "cuda")
    ]
    assert drawn[0] == drawn[1]
