"""Layers with norm, activation and residual fused into GEMMs give transformers' tokens.

On CUDA they do so in 16 bits, where tokens cannot be compared; here the same layers do in float32.
"""

from __future__ import annotations

import pytest

from tests.models.support import FAMILIES, prompts_of
from tests.models.test_parity import GREEDY, NUM_TOKENS, make_llm, poison, tokens_of
from vllm import ops
from vllm.layers.weights import Dense, dense

FEW = 16
LENGTHS = [1, 13, 30]  # the last one's first chunk is too long for it
PRODUCTS = {"norm": 0, "gated": 0, "residual": 0, "plain": 0}


@pytest.fixture
def count_products(monkeypatch):
    """Few rows are multiplied on the CPU as on CUDA; the calls by what they took along."""
    counts = dict.fromkeys(PRODUCTS, 0)
    few_rows_linear = ops.few_rows_linear

    def count(out, x, weight, bias, norm_weight, epsilon, gated, residual):
        kind = "gated" if gated else "residual" if residual is not None else "plain"
        counts["norm" if kind == "plain" and norm_weight is not None else kind] += 1
        few_rows_linear(out, x, weight, bias, norm_weight, epsilon, gated, residual)

    monkeypatch.setattr("vllm.models.loader.choose_format", lambda device: Dense())
    monkeypatch.setattr(dense, "is_ours", lambda x, weight: len(x) <= FEW)
    monkeypatch.setattr(ops, "few_rows_linear", count)
    return counts


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(tiny, family, count_products):
    prompts = prompts_of(LENGTHS)
    llm = make_llm(tiny(family).folder)
    poison(llm)
    expected = [tiny(family).greedy(prompt, NUM_TOKENS) for prompt in prompts]
    assert tokens_of(llm.generate(prompts, GREEDY)) == expected
    layers = 3  # see tests.models.support
    steps = count_products["gated"] // layers
    assert steps >= NUM_TOKENS - 1
    per_layer = {name: count_products[name] // layers // steps for name in ("norm", "residual")}
    assert per_layer == {"norm": 1, "residual": 2}
