"""Several ranks give the tokens that one gives, in float32: for every family, whatever is asked."""

from __future__ import annotations

import pytest

from tests.models.support import FAMILIES, prompts_of
from tests.worker.ranks.support import ThreadRanks
from vllm.llm import LLM
from vllm.sampling_params import BeamSearchParams, SamplingParams
from vllm.worker.ranks import executor

PROMPTS = prompts_of([1, 4, 17, 48, 9, 33, 21])
LENGTH = 12
# One of each in a batch, and all of them in every family.
PARAMS = [
    SamplingParams(temperature=0, max_tokens=LENGTH),
    SamplingParams(temperature=0, max_tokens=LENGTH, logprobs=3),
    SamplingParams(temperature=1.5, seed=3, n=2, max_tokens=LENGTH),
    SamplingParams(temperature=0.9, top_p=0.8, top_k=40, seed=4, max_tokens=LENGTH, logprobs=0),
    SamplingParams(temperature=0, repetition_penalty=1.3, presence_penalty=0.5, max_tokens=LENGTH),
    SamplingParams(temperature=1.0, min_p=0.05, frequency_penalty=0.7, seed=5, max_tokens=LENGTH),
    SamplingParams(
        temperature=0,
        prompt_logprobs=2,
        min_tokens=5,
        max_tokens=LENGTH,
        allowed_token_ids=list(range(3, 60)),
    ),
]
# 25 blocks of 4 hold a good two of the sequences; steps of 13 tokens cut prompts into pieces.
SETTINGS = {
    "default": {"num_kv_blocks": 256, "block_size": 4},
    "overlap": {"num_kv_blocks": 256, "block_size": 4, "async_scheduling": True},
    "preemption": {
        "num_kv_blocks": 25,
        "block_size": 4,
        "max_model_len": 100,
        "max_num_seqs": 13,
        "max_num_batched_tokens": 13,
    },
}


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr(executor, "Processes", ThreadRanks)


@pytest.fixture(scope="module")
def alone(tiny):
    """alone(family, setting) -> what one rank generates."""
    made = {}

    def get(family, setting):
        if (family, setting) not in made:
            folder = tiny(family).folder
            llm = LLM(folder, skip_tokenizer_init=True, device="cpu", **SETTINGS[setting])
            made[family, setting] = llm.generate(PROMPTS, PARAMS)
        return made[family, setting]

    return get


def tokens_of(outputs):
    return [[each.token_ids for each in output.outputs] for output in outputs]


def logprobs_of(outputs):
    """All that there are, as (token, rank) and value."""
    found = {}
    for index, output in enumerate(outputs):
        lists = [each.logprobs or [] for each in output.outputs]
        for at, entries in enumerate([output.prompt_logprobs or [], *lists]):
            for position, entry in enumerate(entries):
                for token, logprob in (entry or {}).items():
                    found[index, at, position, token] = logprob.logprob
    return found


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_those_of_one_rank(tiny, alone, family, setting, size):
    llm = LLM(
        tiny(family).folder,
        skip_tokenizer_init=True,
        tensor_parallel_size=size,
        device="cpu",
        **SETTINGS[setting],
    )
    expected = alone(family, setting)
    assert logprobs_of(expected)
    outputs = llm.generate(PROMPTS, PARAMS)
    assert tokens_of(outputs) == tokens_of(expected)
    assert logprobs_of(outputs) == pytest.approx(logprobs_of(expected), abs=1e-3)
    if setting == "preemption":
        assert llm.engine.scheduler.num_preemptions > 0
    else:
        again = llm.generate(PROMPTS, PARAMS)
        assert tokens_of(again) == tokens_of(expected)
        assert sum(output.num_cached_tokens for output in again) > 0
    llm.engine.executor.close()


def test_ranks_that_wait_for_tokens_go_on_where_nobody_wants_them(tiny, monkeypatch):
    """An exception between a step's two parts: rank 0 has its logits, the other waits for what it
    samples. The next step is computed by both."""
    masked = PARAMS[-1]
    llm = LLM(
        tiny("qwen3").folder,
        skip_tokenizer_init=True,
        tensor_parallel_size=2,
        device="cpu",
        **SETTINGS["overlap"],
    )
    expected = tokens_of(llm.generate(PROMPTS, masked))
    for calls in (0, 1, 3):
        llm.engine.add_request("r", PROMPTS[0], masked)
        with monkeypatch.context() as patch:
            for _ in range(calls):
                llm.engine.step()
            patch.setattr(llm.engine.executor, "sample", lambda handle: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                llm.engine.step()
        assert tokens_of(llm.generate(PROMPTS, masked)) == expected
    llm.engine.executor.close()


def constrained(model, num_ranks, device, overlap):
    """The tokens of what needs a tokenizer: grammars, lists of tokens, beams."""
    params = [
        SamplingParams(temperature=0, max_tokens=LENGTH, structured_outputs={"regex": "[a-z]{9}"}),
        SamplingParams(
            temperature=1.0, seed=6, max_tokens=30, structured_outputs={"json": {"type": "integer"}}
        ),
        SamplingParams(temperature=0, max_tokens=LENGTH, bad_words=["a", "the cat"]),
        SamplingParams(temperature=0, max_tokens=LENGTH, logit_bias={7: 90.0, 8: -90.0}),
        SamplingParams(temperature=0, max_tokens=LENGTH, stop=["e"], ignore_eos=True),
    ]
    prompts = ["the cat", "a", "the cat", "the", "cat the cat"]
    llm = LLM(
        model.folder,
        tensor_parallel_size=num_ranks,
        device=device,
        num_kv_blocks=256,
        block_size=4,
        async_scheduling=overlap,
    )
    outputs = llm.generate(prompts, params)
    beams = llm.beam_search([prompts[0]], BeamSearchParams(beam_width=3, max_tokens=6))
    llm.engine.executor.close()
    return tokens_of(outputs), [each.tokens for each in beams[0].sequences]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_grammars_lists_of_tokens_and_beams_equal_those_of_one_rank(chat_model, size, overlap):
    expected = constrained(chat_model, 1, "cpu", overlap)
    assert len(expected[1]) == 3
    assert constrained(chat_model, size, "cpu", overlap) == expected


def bfloat16_error(model, num_ranks, device):
    """The error of log-probabilities in bfloat16, against float32 in transformers."""
    prompts = prompts_of([60, 33])
    llm = LLM(
        model.folder,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        tensor_parallel_size=num_ranks,
        device=device,
        num_kv_blocks=256,
    )
    errors = []
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=8)
    for prompt, output in zip(prompts, llm.generate(prompts, params)):
        exact = model.logprobs(prompt)
        for position, entry in enumerate(output.prompt_logprobs[1:]):
            for token, logprob in entry.items():
                errors.append(logprob.logprob - exact[position, token].item())
    llm.engine.executor.close()
    return sum(each**2 for each in errors) ** 0.5


BFLOAT16_FAMILIES = ["llama-linear-biased", "mistral", "qwen3"]
BFLOAT16_BOUND = 1.5  # times the error of one rank, as docs/engine.md has it


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("family", BFLOAT16_FAMILIES)
def test_bfloat16_logits_are_as_close_as_those_of_one_rank(tiny, family, size):
    alone = bfloat16_error(tiny(family), 1, "cpu")
    assert 0 < bfloat16_error(tiny(family), size, "cpu") <= BFLOAT16_BOUND * alone
