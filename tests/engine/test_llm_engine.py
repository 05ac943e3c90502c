"""Requests from their arrival to their last output, through a real model and tokenizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.models.support import VOCAB_SIZE, prompts_of
from vllm import LLM, EngineArgs, LLMEngine, RequestOutputKind, SamplingParams
from vllm.config import ModelError
from vllm.worker import assemble, load
from vllm.worker.budget import Advice

PROMPT = "the cat and the dog"
GREEDY = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
DELTA = dataclasses.replace(GREEDY, output_kind=RequestOutputKind.DELTA)


@pytest.fixture(scope="module")
def llm(chat_model):
    return LLM(str(chat_model.folder), num_kv_blocks=256, block_size=4)


@pytest.fixture(scope="module")
def free_text(llm):
    """What the model says when nothing stops it."""
    return llm.generate(PROMPT, GREEDY)[0].outputs[0].text


def small(folder, **kwargs):
    return LLM(str(folder), skip_tokenizer_init=True, **{"num_kv_blocks": 64, **kwargs})


def test_text_ids_and_mappings_are_the_same_prompt(llm):
    ids = llm.engine.tokenizer.encode(PROMPT)
    forms = [PROMPT, ids, {"prompt": PROMPT}, {"prompt_token_ids": ids}]
    outputs = llm.generate(forms, GREEDY)
    assert len({tuple(output.outputs[0].token_ids) for output in outputs}) == 1
    assert [output.prompt for output in outputs] == [PROMPT, None, PROMPT, None]
    assert llm.generate(ids, GREEDY)[0].outputs[0].text == outputs[0].outputs[0].text
    assert llm.generate([], GREEDY) == []


def test_steps_are_long_where_nobody_waits_for_a_token(chat_model, monkeypatch):
    monkeypatch.setattr(load, "advise", lambda *_: Advice(300, 700))
    args = EngineArgs(str(chat_model.folder), num_kv_blocks=64)
    given = dataclasses.replace(args, max_num_batched_tokens=400)
    budgets = [
        (scheduler.max_num_batched_tokens, scheduler.max_prompt_tokens)
        for scheduler in (
            LLMEngine(args).scheduler,
            LLM(args.model, num_kv_blocks=64).engine.scheduler,
            LLMEngine(given).scheduler,
        )
    ]
    assert budgets == [(300, 700), (700, 700), (400, 400)]


def test_text_is_that_of_the_tokens(llm, free_text):
    output = llm.generate(PROMPT, GREEDY)[0]
    tokenizer = llm.engine.tokenizer
    whole = tokenizer.decode(output.prompt_token_ids + output.outputs[0].token_ids)
    assert PROMPT + free_text == whole
    assert output.outputs[0].finish_reason == "length"
    assert output.finished
    metrics = output.metrics
    times = [metrics.arrival_time, metrics.first_scheduled_time, metrics.first_token_time]
    assert sorted([*times, metrics.finished_time]) == [*times, metrics.finished_time]


def test_stop_strings_end_the_text_and_may_be_kept(llm, free_text):
    stop = free_text[8:11]
    at = free_text.index(stop)
    for include in (False, True):
        params = dataclasses.replace(
            GREEDY, stop=["not in there", stop], include_stop_str_in_output=include
        )
        output = llm.generate(PROMPT, params)[0].outputs[0]
        assert output.text == free_text[: at + len(stop) if include else at]
        assert (output.finish_reason, output.stop_reason) == ("stop", stop)
        assert len(output.token_ids) < GREEDY.max_tokens


def test_a_stop_string_never_shows_in_a_stream(llm, free_text):
    stop = free_text[8:11]
    params = dataclasses.replace(DELTA, stop=stop)
    pieces = [output.outputs[0].text for output in llm.stream(PROMPT, params)]
    assert "".join(pieces) == free_text[: free_text.index(stop)]


def test_stop_strings_wait_for_min_tokens(llm, free_text):
    stop = free_text[8:11]
    params = dataclasses.replace(GREEDY, stop=stop, min_tokens=29)
    output = llm.generate(PROMPT, params)[0].outputs[0]
    assert len(output.token_ids) >= 29
    assert output.text.startswith(free_text[:11])


def test_end_of_sequence_is_no_text(llm, chat_model):
    tokenizer = llm.engine.tokenizer
    ids = llm.generate(PROMPT, GREEDY)[0].outputs[0].token_ids
    params = dataclasses.replace(GREEDY, stop_token_ids=[ids[9]])
    output = llm.generate(PROMPT, params)[0].outputs[0]
    end = ids.index(ids[9])
    assert output.token_ids == ids[: end + 1]
    assert PROMPT + output.text == tokenizer.decode(tokenizer.encode(PROMPT) + ids[:end])
    kept = dataclasses.replace(params, include_stop_str_in_output=True)
    longer = llm.generate(PROMPT, kept)[0].outputs[0].text
    assert PROMPT + longer == tokenizer.decode(tokenizer.encode(PROMPT) + ids[: end + 1])


def test_streams_of_deltas_add_up_and_cumulative_ones_grow(llm):
    final = llm.generate(PROMPT, GREEDY)[0].outputs[0]
    deltas = [output.outputs[0] for output in llm.stream(PROMPT, DELTA)]
    assert "".join(delta.text for delta in deltas) == final.text
    assert [token for delta in deltas for token in delta.token_ids] == final.token_ids
    assert [delta.finish_reason for delta in deltas] == [None] * 29 + ["length"]
    growing = [output.outputs[0] for output in llm.stream(PROMPT, GREEDY)]
    assert [each.token_ids for each in growing] == [final.token_ids[: i + 1] for i in range(30)]
    assert growing[-1].text == final.text
    for before, after in zip(growing, growing[1:]):
        assert after.text.startswith(before.text)


def test_logprobs_in_streams_and_their_text(llm):
    params = dataclasses.replace(GREEDY, logprobs=2)
    final = llm.generate(PROMPT, params)[0].outputs[0]
    assert [next(iter(entry)) for entry in final.logprobs] == final.token_ids
    assert all(2 <= len(entry) <= 3 for entry in final.logprobs)
    assert all(entry[token].rank == 1 for entry, token in zip(final.logprobs, final.token_ids))
    total = sum(entry[token].logprob for entry, token in zip(final.logprobs, final.token_ids))
    assert final.cumulative_logprob == pytest.approx(total)
    tokenizer = llm.engine.tokenizer
    for entry in final.logprobs:
        for token, logprob in entry.items():
            assert logprob.decoded_token == tokenizer.token_text(token)
    deltas = llm.stream(PROMPT, dataclasses.replace(DELTA, logprobs=2))
    assert [entry for d in deltas for entry in d.outputs[0].logprobs] == final.logprobs


def test_n_continuations_differ_and_the_first_is_that_of_n_1(llm):
    params = SamplingParams(temperature=1.0, seed=7, n=4, max_tokens=12, ignore_eos=True)
    output = llm.generate(PROMPT, params)[0]
    assert [each.index for each in output.outputs] == [0, 1, 2, 3]
    assert len({tuple(each.token_ids) for each in output.outputs}) == 4
    alone = llm.generate(PROMPT, dataclasses.replace(params, n=1))[0]
    assert alone.outputs[0].token_ids == output.outputs[0].token_ids
    streamed = {}
    kind = dataclasses.replace(params, output_kind=RequestOutputKind.DELTA)
    for news in llm.stream(PROMPT, kind):
        for each in news.outputs:
            streamed.setdefault(each.index, []).extend(each.token_ids)
    assert [streamed[i] for i in range(4)] == [each.token_ids for each in output.outputs]


def test_equal_prompts_of_one_request_are_computed_once(chat_model):
    llm = small(chat_model.folder, block_size=4)
    params = SamplingParams(n=5, seed=1, max_tokens=3)
    output = llm.generate(prompts_of([41])[0], params)[0]
    assert output.num_cached_tokens == 4 * 40


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"enable_prefix_caching": False},
        {"max_num_seqs": 2, "max_num_batched_tokens": 7},
        {"num_kv_blocks": 20, "block_size": 4, "max_model_len": 80},  # preempts
    ],
)
def test_seeded_draws_do_not_depend_on_company_or_preemption(chat_model, kwargs):
    prompts = prompts_of([30, 21, 26, 9])
    params = [
        SamplingParams(temperature=0.9, top_p=0.95, top_k=50, seed=seed, max_tokens=25)
        for seed in range(4)
    ]
    alone = small(chat_model.folder)
    expected = [alone.generate(p, s)[0].outputs[0].token_ids for p, s in zip(prompts, params)]
    llm = small(chat_model.folder, **kwargs)
    company = prompts_of([17, 5], seed=9)
    unseeded = [SamplingParams(temperature=1.5, max_tokens=20)] * 2
    outputs = llm.generate(company + prompts, unseeded + params)
    assert [output.outputs[0].token_ids for output in outputs[2:]] == expected
    if "num_kv_blocks" in kwargs:
        assert llm.engine.scheduler.num_preemptions > 0


def test_the_engines_seed_makes_unseeded_requests_repeatable(chat_model):
    def tokens(seed):
        llm = small(chat_model.folder, seed=seed)
        params = SamplingParams(temperature=1.0, max_tokens=20)
        return [o.outputs[0].token_ids for o in llm.generate(prompts_of([5, 5]), params)]

    assert tokens(1) == tokens(1) != tokens(2)


def test_prompt_logprobs_survive_preemption_and_a_warm_cache(chat_model):
    prompts = prompts_of([30, 21, 26, 19])
    params = SamplingParams(temperature=0, max_tokens=20, prompt_logprobs=1)
    calm = small(chat_model.folder)
    expected = calm.generate(prompts, params)
    assert all(len(o.prompt_logprobs) == len(p) for o, p in zip(expected, prompts))
    tight = small(
        chat_model.folder,
        num_kv_blocks=20,
        block_size=4,
        max_model_len=80,
        max_num_seqs=4,
        max_num_batched_tokens=10,
    )
    for _ in range(2):
        for told, wanted in zip(tight.generate(prompts, params), expected):
            assert told.prompt_logprobs[0] is None
            assert all(told.prompt_logprobs[1:])
            for entry, reference in zip(told.prompt_logprobs[1:], wanted.prompt_logprobs[1:]):
                token = next(iter(reference))
                assert entry[token].logprob == pytest.approx(reference[token].logprob, abs=1e-3)
    assert tight.engine.scheduler.num_preemptions > 0


def test_hits_after_a_preemption_are_not_counted(chat_model):
    """`num_cached_tokens` is what earlier requests spared, of the prompt only."""
    llm = small(chat_model.folder, num_kv_blocks=20, block_size=4, max_model_len=80)
    outputs = llm.generate(prompts_of([30, 21, 26]), dataclasses.replace(GREEDY, max_tokens=25))
    assert sum(output.metrics.num_preemptions for output in outputs) > 0
    assert [output.num_cached_tokens for output in outputs] == [0, 0, 0]


def test_the_prefix_cache_is_emptied_between_requests(chat_model):
    llm = small(chat_model.folder, block_size=4)
    prompt = prompts_of([30])[0]

    def cached():
        return llm.generate(prompt, GREEDY)[0].num_cached_tokens

    assert [cached(), cached()] == [0, 28]
    assert llm.reset_prefix_cache()
    assert cached() == 0
    stream = llm.stream(prompt, GREEDY)
    next(stream)
    assert not llm.reset_prefix_cache()  # its blocks are in use
    stream.close()
    assert llm.reset_prefix_cache()
    assert [cached(), cached()] == [0, 28]


def test_frequency_penalty_counts(chat_model):
    """With the strongest penalty, greedy never repeats a token it could avoid."""
    llm = small(chat_model.folder)
    plain = SamplingParams(temperature=0, max_tokens=60)
    prompt = prompts_of([6])[0]

    def most_common(params):
        ids = llm.generate(prompt, params)[0].outputs[0].token_ids
        return max(ids.count(token) for token in ids)

    # Logits of this model span some 20; ten occurrences at 2 each are hardly to be overcome.
    penalised = dataclasses.replace(plain, frequency_penalty=2.0, presence_penalty=2.0)
    assert most_common(penalised) <= 10
    rewarded = dataclasses.replace(plain, frequency_penalty=-2.0)
    assert most_common(rewarded) > most_common(penalised)


def test_abandoned_streams_are_cancelled_and_others_go_on(llm, free_text):
    manager = llm.engine.scheduler.block_manager
    first = llm.stream(PROMPT, GREEDY)
    next(first)
    second = llm.stream("the mat", GREEDY)
    next(second)
    first.close()
    assert llm.engine.get_num_unfinished_requests() == 1
    # A call in between does not lose the outputs of the stream.
    assert llm.generate(PROMPT, GREEDY)[0].outputs[0].text == free_text
    assert list(second)[-1].finished
    assert manager.num_free_blocks == manager.num_blocks


def test_requests_of_the_engine_s_caller_are_not_lost_to_a_batch(chat_model):
    llm = small(chat_model.folder)
    params = SamplingParams(max_tokens=4, temperature=0)
    want = llm.generate([[1, 2]], params)[0].outputs[0].token_ids
    stream = llm.stream([[3]], params)
    next(stream)
    llm.llm_engine.add_request("mine", [1, 2], params)
    for call in (lambda: llm.generate([[3]], params), lambda: next(stream)):
        with pytest.raises(RuntimeError, match=r"has 1 requests that were added .*such as 'mine'"):
            call()
    outputs = []
    while llm.llm_engine.has_unfinished_requests:
        outputs += llm.llm_engine.step()
    assert outputs[-1].outputs[0].token_ids == want
    assert llm.generate([[1, 2]], params)[0].outputs[0].token_ids == want


def test_abort_at_every_stage(chat_model):
    engine = LLMEngine(
        EngineArgs(str(chat_model.folder), num_kv_blocks=64, max_num_seqs=1, max_model_len=64)
    )
    engine.add_request("running", PROMPT, DELTA)
    engine.add_request("waiting", PROMPT, DELTA)
    with pytest.raises(ValueError, match="request id 'waiting' is in use"):
        engine.add_request("waiting", PROMPT, DELTA)
    engine.step()
    for request_id in ("running", "waiting"):
        output = engine.abort_request(request_id)
        assert output.finished
        assert output.outputs[0].finish_reason == "abort"
    assert engine.abort_request("running") is None
    assert not engine.has_unfinished_requests()
    assert engine.step() == []
    assert engine.scheduler.block_manager.num_free_blocks == 64


def test_a_failed_step_drops_requests_and_half_written_prefixes(chat_model, monkeypatch):
    llm = small(chat_model.folder, block_size=4)
    prompt = prompts_of([30])[0]
    expected = llm.generate(prompt, GREEDY)[0].outputs[0].token_ids
    llm = small(chat_model.folder, block_size=4)
    stream = llm.stream([1, 2, 3], GREEDY)
    next(stream)
    with monkeypatch.context() as patch:
        patch.setattr(llm.engine.executor.runner.model, "forward", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            llm.generate(prompt, GREEDY)
    assert not llm.engine.has_unfinished_requests()
    with pytest.raises(RuntimeError, match="another call made has failed"):
        list(stream)
    again = llm.generate(prompt, GREEDY)[0]
    assert again.num_cached_tokens == 0
    assert again.outputs[0].token_ids == expected


def test_chat_is_generate_with_the_template(llm):
    messages = [{"role": "user", "content": "the cat"}]
    text = "<|user|>the cat<|end|><|assistant|>"
    output = llm.chat(messages, GREEDY)[0]
    assert output.prompt == text
    assert output.prompt_token_ids == llm.engine.tokenizer.encode(text, add_special_tokens=False)
    several = llm.chat([messages, messages], GREEDY)
    assert [each.outputs[0].text for each in several] == [output.outputs[0].text] * 2
    replaced = llm.chat(messages, GREEDY, chat_template="{{ x }}", chat_template_kwargs={"x": "hm"})
    assert replaced[0].prompt == "hm"
    with pytest.raises(ValueError, match="at least one message"):
        llm.chat([], GREEDY)
    for no_list in ("the cat", messages[0]):
        with pytest.raises(ValueError, match="messages must be a list of mappings, got"):
            llm.chat(no_list, GREEDY)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ([[]], "the prompt is empty"),
        ({"prompt_token_ids": []}, "the prompt is empty"),
        ({}, "a prompt mapping has 'prompt'"),
        ({"text": "x"}, r"a prompt mapping has .* got \['text'\]"),
        ([[5, VOCAB_SIZE]], r"prompt token 1 must be an integer in \[0, 320\), got 320"),
        ([[-1]], r"prompt token 0 must be .* got -1"),
        ([[1.5]], r"prompt token 0 must be .* got 1.5"),
        ([b"bytes"], "a prompt is text, token ids or a mapping, got bytes"),
        ([None], "a prompt is text, token ids or a mapping, got NoneType"),
        ([[1] * 160], "the prompt is too long: it has 160 tokens, and this model.s maximum"),
        ("x" * 500, r"the prompt is too long: it has \d+ tokens, and this model.s maximum"),
        ({"prompt": 5}, "'prompt' of a prompt mapping is text, got 5"),
        ({"cache_salt": "a"}, "a prompt mapping has 'prompt'"),
        ({"prompt": "hi", "cache_salt": ""}, "cache_salt must be a non-empty text, got ''"),
        ({"prompt_token_ids": 5}, "'prompt_token_ids' is token ids, got int"),
        ({"prompt_token_ids": "12"}, "'prompt_token_ids' is token ids, got str"),
        ("the \udcff", r"the text is not Unicode: character 4 is '\\udcff'"),
    ],
)
def test_prompts_that_are_refused(llm, prompt, message):
    with pytest.raises(ValueError, match="prompt 0: .*" + message):
        llm.generate(prompt, GREEDY)
    assert not llm.engine.has_unfinished_requests()


def test_one_bad_prompt_refuses_the_call_before_any_is_computed(llm):
    with pytest.raises(ValueError, match="prompt 1: the prompt is empty"):
        llm.generate([PROMPT, ""], GREEDY)
    with pytest.raises(ValueError, match="got 1 for 2 prompts"):
        llm.generate([PROMPT, PROMPT], [GREEDY])
    for prompts in (None, 5):
        with pytest.raises(ValueError, match=f"prompts must be text, .*, got {prompts}"):
            llm.generate(prompts, GREEDY)
    for params in ({"temperature": 0}, 0.5, "greedy", [None]):
        with pytest.raises(ValueError, match="sampling_params must be a SamplingParams, or a list"):
            llm.generate([PROMPT], params)
    assert not llm.engine.has_unfinished_requests()


def test_requests_that_this_engine_cannot_serve(chat_model, llm):
    with pytest.raises(ValueError, match=r"stop_token_ids must be in \[0, 320\), got \[320\]"):
        llm.generate(PROMPT, SamplingParams(stop_token_ids=[3, 320]))
    without = small(chat_model.folder)
    with pytest.raises(ValueError, match=r"no tokenizer \(skip_tokenizer_init\): pass token ids"):
        without.generate("text", GREEDY)
    with pytest.raises(ValueError, match="stop must be empty without a tokenizer"):
        without.generate([1], dataclasses.replace(GREEDY, stop="x"))
    with pytest.raises(ValueError, match="this engine has no tokenizer"):
        without.chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"device": "tpu"}, ValueError, "device must be auto, cpu or cuda"),
        ({"device": "meta"}, ValueError, "device must be auto, cpu or cuda"),
        ({"max_model_len": 5000}, ValueError, r"max_model_len \(5000\) is more than the 160"),
        ({"max_model_len": 150, "num_kv_blocks": 5}, ValueError, "does not fit in the cache of 80"),
        (
            {"num_kv_blocks": 10**12},
            ValueError,
            "a KV cache of 1000000000000 blocks, .* cannot be",
        ),
        ({"kv_cache_memory_bytes": 10, "num_kv_blocks": None}, ValueError, "no memory for the KV"),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 64, "max_num_seqs": 8},
            ValueError,
            r"at least max_model_len \(160\) without chunked prefill, got 64",
        ),
        ({"tokenizer": "/no/such"}, ModelError, "'/no/such' is neither a folder nor a hub id"),
    ],
)
def test_engines_that_cannot_be(chat_model, kwargs, error, message):
    with pytest.raises(error, match=message):
        LLM(str(chat_model.folder), **{"num_kv_blocks": 64, **kwargs})


def test_a_family_that_is_not_supported_is_told_so_whatever_its_fields(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "n_embd": 8}')
    with pytest.raises(ModelError, match="architecture 'GPT2LMHeadModel' is not supported; Llama"):
        LLM(str(tmp_path))


def test_the_revision_is_that_of_the_model_only(chat_model, monkeypatch):
    folder, asked = str(chat_model.folder), []

    def find(name, revision=None):
        asked.append((name, revision))
        return Path(name)

    for module in (assemble, load):
        monkeypatch.setattr(module, "find_folder", find)
    LLM(folder, tokenizer=folder, revision="v2", num_kv_blocks=64)
    assert asked == [(folder, "v2"), (folder, None)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_device(chat_model):
    with pytest.raises(ValueError, match="device is 'cuda', but torch finds no CUDA device"):
        LLM(str(chat_model.folder), device="cuda")


def test_a_small_cache_limits_the_context_that_nobody_asked_for(chat_model, caplog):
    llm = small(chat_model.folder, num_kv_blocks=5, block_size=8)
    assert llm.engine.max_model_len == 40
    assert "limited to the 40 tokens that the cache holds" in caplog.text
    output = llm.generate([1, 2, 3], SamplingParams(temperature=0, max_tokens=None))[0].outputs[0]
    assert len(output.token_ids) == 37
