"""The same tokens as transformers: for every family, with every feature on and off.

float32, greedy: token for token. The references are computed without a batch and without any of
the features, by transformers' own generate.
"""

from __future__ import annotations

import pytest
import torch

from tests.models.support import FAMILIES, MAX_LEN, prompts_of, write_model
from vllm.layers.weights import onednn
from vllm.llm import LLM
from vllm.sampling_params import SamplingParams

LENGTHS = [1, 4, 17, 48, 9, 33]
NUM_TOKENS = 24
GREEDY = SamplingParams(temperature=0, max_tokens=NUM_TOKENS)

# How the engine may be set without changing what it computes.
FEATURES = {
    "default": {},
    "one at a time": {"max_num_seqs": 1},
    "chunks of 5": {"max_num_seqs": 5, "max_num_batched_tokens": 5},
    "chunks of 29": {"max_num_seqs": 3, "max_num_batched_tokens": 29},
    "no chunked prefill": {"enable_chunked_prefill": False, "max_num_seqs": 3},
    "no prefix caching": {"enable_prefix_caching": False},
    "blocks of 1": {"block_size": 1, "num_kv_blocks": 300},
    "blocks of 7": {"block_size": 7},
    "blocks of 64": {"block_size": 64},
    # 25 blocks of 4 hold a good two of the six sequences.
    "preemption": {"num_kv_blocks": 25, "block_size": 4, "max_model_len": 100},
    "preemption without prefix caching": {
        "num_kv_blocks": 25,
        "block_size": 4,
        "max_model_len": 100,
        "enable_prefix_caching": False,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 11,
    },
}


def make_llm(folder, **kwargs):
    if not {"num_kv_blocks", "kv_cache_memory_bytes"} & kwargs.keys():
        kwargs["num_kv_blocks"] = 256
    return LLM(str(folder), skip_tokenizer_init=True, **kwargs)


def poison(llm):
    """Fills the cache with NaN: what is read without having been written shows."""
    for keys, values in llm.engine.executor.runner.caches:
        keys.fill_(float("nan"))
        values.fill_(float("nan"))


def tokens_of(outputs):
    return [output.outputs[0].token_ids for output in outputs]


@pytest.fixture(scope="module")
def expected(tiny):
    """expected(family) -> the reference's tokens for each prompt."""
    made = {}

    def get(family):
        if family not in made:
            prompts = prompts_of(LENGTHS)
            made[family] = [tiny(family).greedy(prompt, NUM_TOKENS) for prompt in prompts]
        return made[family]

    return get


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(tiny, expected, family, feature):
    llm = make_llm(tiny(family).folder, **FEATURES[feature])
    poison(llm)
    assert tokens_of(llm.generate(prompts_of(LENGTHS), GREEDY)) == expected(family)
    if feature.startswith("preemption"):
        assert llm.engine.scheduler.num_preemptions > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_hits_change_nothing(tiny, expected, family):
    llm = make_llm(tiny(family).folder, block_size=4)
    poison(llm)
    prompts = prompts_of(LENGTHS)
    assert tokens_of(llm.generate(prompts, GREEDY)) == expected(family)
    again = llm.generate(prompts, GREEDY)
    assert tokens_of(again) == expected(family)
    # All whole blocks, but for the one with the token that is always left to compute.
    assert [output.num_cached_tokens for output in again] == [(n - 1) // 4 * 4 for n in LENGTHS]
    # A conversation that goes on: the prompt, what was answered, and something new.
    longer = [p + e + [7, 8, 9] for p, e in zip(prompts, expected(family))]
    outputs = llm.generate(longer, GREEDY)
    assert all(output.num_cached_tokens > len(p) for output, p in zip(outputs, prompts))
    fresh = make_llm(tiny(family).folder, enable_prefix_caching=False)
    assert tokens_of(outputs) == tokens_of(fresh.generate(longer, GREEDY))


@pytest.mark.parametrize("family", ["llama-linear-biased", "qwen3"])  # untied and tied heads
def test_packed_weights_change_nothing(tiny, expected, family, monkeypatch):
    monkeypatch.setattr(onednn, "MIN_ELEMENTS", 0)
    llm = make_llm(tiny(family).folder)
    assert llm.engine.executor.runner.model.lm_head.packed is not None
    assert tokens_of(llm.generate(prompts_of(LENGTHS), GREEDY)) == expected(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_company_in_a_batch_changes_nothing(tiny, expected, family):
    llm = make_llm(tiny(family).folder, enable_prefix_caching=False)
    prompts = prompts_of(LENGTHS)
    assert [tokens_of(llm.generate(prompt, GREEDY))[0] for prompt in prompts] == expected(family)
    backwards = llm.generate(prompts[::-1] + prompts_of([20, 60, 3], seed=5), GREEDY)
    assert tokens_of(backwards)[: len(prompts)] == expected(family)[::-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_context_is_usable(tiny, family):
    llm = make_llm(tiny(family).folder, max_num_batched_tokens=64, max_num_seqs=8)
    assert llm.engine.max_model_len >= MAX_LEN
    prompt = prompts_of([llm.engine.max_model_len - 10])[0]
    output = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=None))[0].outputs[0]
    assert output.token_ids == tiny(family).greedy(prompt, 10)
    assert output.finish_reason == "length"


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_logprobs_equal_transformers(tiny, family):
    prompt = prompts_of([40])[0]
    llm = make_llm(tiny(family).folder, max_num_seqs=4, max_num_batched_tokens=13)
    params = SamplingParams(temperature=0, max_tokens=3, prompt_logprobs=4, logprobs=4)
    output = llm.generate(prompt, params)[0]
    told = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
    tokens = prompt + output.outputs[0].token_ids
    reference = tiny(family).logprobs(tokens[:-1])
    assert output.prompt_logprobs[0] is None
    assert len(told) == len(reference)
    for position, (entry, row) in enumerate(zip(told, reference)):
        assert next(iter(entry)) == tokens[position + 1]
        best = row.topk(4).indices.tolist()
        assert set(entry) == {tokens[position + 1], *best}
        for token, logprob in entry.items():
            assert logprob.logprob == pytest.approx(row[token].item(), abs=2e-3)
            assert logprob.rank == int((row > row[token]).sum()) + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_penalties_equal_transformers(tiny, family):
    prompts = prompts_of([12, 30])
    llm = make_llm(tiny(family).folder)
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, repetition_penalty=1.7)
    reference = [tiny(family).greedy(p, NUM_TOKENS, repetition_penalty=1.7) for p in prompts]
    assert tokens_of(llm.generate(prompts, params)) == reference


@pytest.mark.parametrize("family", FAMILIES)
def test_end_of_sequence_and_min_tokens_equal_transformers(tiny, expected, family):
    prompt, free = prompts_of(LENGTHS)[2], expected(family)[2]
    end = free[6]
    llm = make_llm(tiny(family).folder)
    stopped = llm.generate(
        prompt, SamplingParams(temperature=0, max_tokens=NUM_TOKENS, stop_token_ids=[end])
    )[0].outputs[0]
    assert stopped.token_ids == free[: free.index(end) + 1]
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", end)
    params = SamplingParams(
        temperature=0, max_tokens=NUM_TOKENS, stop_token_ids=[end], min_tokens=12
    )
    reference = tiny(family).greedy(
        prompt, NUM_TOKENS, eos_token_id=end, min_new_tokens=12, pad_token_id=0
    )
    assert tokens_of(llm.generate(prompt, params)) == [reference]


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_logits_are_as_close_as_those_of_transformers(tiny, family):
    """Against float32, the error is at most that of transformers in bfloat16, and half again."""
    prompts = prompts_of([60, 33])
    llm = make_llm(tiny(family).folder, dtype="bfloat16")
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=8)
    ours, theirs = [], []
    rounded = type(tiny(family).reference).from_pretrained(
        tiny(family).folder, dtype=torch.bfloat16
    )
    for prompt, output in zip(prompts, llm.generate(prompts, params)):
        exact = tiny(family).logprobs(prompt)
        with torch.inference_mode():
            logits = rounded(torch.tensor([prompt])).logits[0].float().log_softmax(-1)
        for position, entry in enumerate(output.prompt_logprobs[1:]):
            for token, logprob in entry.items():
                ours.append(logprob.logprob - exact[position, token].item())
                theirs.append((logits[position, token] - exact[position, token]).item())
    error, allowed = (torch.tensor(e).square().mean().sqrt().item() for e in (ours, theirs))
    assert 0 < error <= 1.5 * allowed


@pytest.mark.parametrize("family", ["llama3", "qwen2"])
def test_sharded_and_single_files_give_the_same(tiny, expected, family, tmp_path):
    sharded = write_model(tmp_path, family, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    llm = make_llm(sharded.folder)
    assert tokens_of(llm.generate(prompts_of(LENGTHS), GREEDY)) == expected(family)
