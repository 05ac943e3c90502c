"""Beam search: as transformers finds it, and as exhaustive search does."""

from __future__ import annotations

import itertools
import math

import pytest

from vllm.beam_search import search
from vllm.outputs import Logprob
from vllm.sampling_params import BeamSearchParams


def test_a_width_that_keeps_everything_finds_the_best_of_all():
    """A model of three tokens, of which 2 ends; its log-probabilities depend on all before."""

    def logprobs(tokens):
        weights = [1 + (7 * sum(tokens) + 3 * len(tokens) + 5 * t) % 11 for t in range(3)]
        total = sum(weights)
        return {t: Logprob(math.log(w / total), 0) for t, w in enumerate(weights)}

    def score(tokens):
        return sum(logprobs([0, *tokens[:i]])[t].logprob for i, t in enumerate(tokens))

    wholes = {
        tokens[: tokens.index(2) + 1] if 2 in tokens else tokens
        for tokens in itertools.product(range(3), repeat=4)
    }
    for penalty in (0.0, 1.0, 2.0):
        params = BeamSearchParams(beam_width=81, max_tokens=4, length_penalty=penalty)
        (found,) = search(
            [[0]],
            params,
            lambda beams: [logprobs(tokens) for tokens in beams],
            eos_token_ids=frozenset([2]),
        )
        expected = sorted(wholes, key=lambda t: -score(t) / len(t) ** penalty, reverse=False)
        assert {tuple(each.tokens[1:]) for each in found} == wholes
        assert tuple(found[0].tokens[1:]) == expected[0]
        for each in found:
            assert each.cum_logprob == pytest.approx(score(each.tokens[1:]))
            assert each.finish_reason == ("stop" if each.tokens[-1] == 2 else "length")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_width": 0}, r"beam_width must be an integer in \[1, 128\], got 0"),
        ({"beam_width": 129}, "beam_width must be"),
        ({"max_tokens": None}, "max_tokens must be an integer, at least 1, got None"),
        ({"ignore_eos": 1}, "ignore_eos must be True or False, got 1"),
        ({"temperature": 0.5}, "temperature must be 0 in a beam search, got 0.5"),
        ({"length_penalty": "x"}, r"length_penalty must be a number in \[-10, 10\], got 'x'"),
        ({"length_penalty": 1e6}, r"length_penalty must be a number in \[-10, 10\], got 1000000.0"),
        (
            {"length_penalty": float("nan")},
            r"length_penalty must be a number in \[-10, 10\], got nan",
        ),
    ],
)
def test_ranges(changes, message):
    with pytest.raises(ValueError, match=message):
        BeamSearchParams(**{"beam_width": 2, "max_tokens": 3, **changes})
    for width in (1, 128):
        assert BeamSearchParams(beam_width=width, max_tokens=1).beam_width == width


def test_beams_are_those_of_transformers(chat_model):
    torch = pytest.importorskip("torch")
    from vllm import LLM

    llm = LLM(str(chat_model.folder), num_kv_blocks=256)
    params = BeamSearchParams(beam_width=4, max_tokens=8, ignore_eos=True)
    prompts = ["the cat and the dog", [5, 6, 7]]
    for prompt, output in zip(prompts, llm.beam_search(prompts, params)):
        ids = llm.engine.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        theirs = chat_model.reference.generate(
            torch.tensor([ids]), num_beams=4, num_return_sequences=4, max_new_tokens=8
        )
        assert [each.tokens for each in output.sequences] == theirs.tolist()
        best = output.sequences[0]
        assert best.finish_reason == "length"
        assert best.text == llm.engine.tokenizer.decode(best.tokens[len(ids) :])
    with pytest.raises(ValueError, match=r"max_tokens must be at most .* with the longest"):
        llm.beam_search(prompts, BeamSearchParams(beam_width=2, max_tokens=500))
    assert llm.beam_search([], params) == []
