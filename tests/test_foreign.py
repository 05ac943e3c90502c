"""Scripts for vLLM: what runs unchanged, and what is refused by name."""

from __future__ import annotations

import copy
import dataclasses
import logging

import pytest

from tests.arguments import DOCUMENT, page
from vllm.engine_args import AsyncEngineArgs, EngineArgs
from vllm.foreign import CALLS, ENGINE, METHODS, SAMPLING, Neutral, without_foreign
from vllm.sampling_params import SamplingParams


def test_the_page_of_arguments_is_that_of_the_code():
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run python -m tests.arguments"


def test_arguments_that_ask_for_nothing_are_accepted():
    args = EngineArgs(
        "m",
        tensor_parallel_size=1,
        quantization=None,
        swap_space=4,
        enforce_eager=None,
        tokenizer_mode="auto",
        load_format="auto",
        seed=None,
        max_num_seqs=None,
        enable_prefix_caching=None,
        disable_log_stats=True,
        num_gpu_blocks_override=64,
    )
    assert args == EngineArgs("m", num_kv_blocks=64)
    assert dataclasses.replace(args, block_size=8).num_kv_blocks == 64
    assert isinstance(AsyncEngineArgs("m", enable_log_requests=False), EngineArgs)
    params = SamplingParams(best_of=1, logit_bias={}, logits_processors=None, bad_words=[], n=2)
    assert params == SamplingParams(n=2)
    params.guided_decoding = None
    assert params == SamplingParams(n=2)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            EngineArgs,
            {"pipeline_parallel_size": 2},
            "EngineArgs takes pipeline_parallel_size only",
        ),
        (EngineArgs, {"quantization": "awq"}, "quantization only as None, got 'awq': weights are"),
        (EngineArgs, {"enable_lora": True}, "enable_lora only as False or None, got True: there"),
        (EngineArgs, {"enable_lora": 0}, "enable_lora only as False or None, got 0"),
        (EngineArgs, {"speculative_config": {"a": 1}}, "there is no speculative decoding"),
        (
            EngineArgs,
            {"num_gpu_blocks_override": 0},
            "num_kv_blocks must be an integer",
        ),
        (AsyncEngineArgs, {"task": "embed"}, "AsyncEngineArgs takes task only as 'auto' or"),
        (SamplingParams, {"best_of": 2}, "SamplingParams takes best_of only as 1 or None, got 2"),
        (SamplingParams, {"logits_processors": [len]}, "logits cannot be changed by the caller"),
        (SamplingParams, {"guided_decoding": object()}, "it is called `structured_outputs` now"),
    ],
)
def test_arguments_that_ask_for_more_are_refused_by_name(make, arguments, message):
    model = {} if make is SamplingParams else {"model": "m"}
    with pytest.raises(ValueError, match=message):
        make(**model, **arguments)


def test_names_that_nobody_knows_are_type_errors():
    for make in (lambda: EngineArgs("m", tensor_paralel_size=1), lambda: SamplingParams(topp=1)):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            make()
    params = SamplingParams()
    with pytest.raises(ValueError, match="best_of only as 1"):
        params.best_of = 3


def test_code_that_comes_with_a_model_is_not_run_and_that_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        EngineArgs("m", trust_remote_code=False)
        assert not caplog.records
        EngineArgs("m", trust_remote_code=True)
    assert "trust_remote_code=True has no effect: code that comes with a model" in caplog.text


@pytest.mark.parametrize("table", [ENGINE, SAMPLING, CALLS])
def test_every_neutral_value_is_accepted(table):
    for name, known in table.items():
        if isinstance(known, Neutral):
            for value in (*known.values, None):
                assert without_foreign("x", table, {name: value}) == {}


def test_types_that_go_by_other_names():
    assert EngineArgs("m", dtype="half").dtype == "float16"
    assert EngineArgs("m", dtype="float").dtype == "float32"
    torch = pytest.importorskip("torch")
    for name in ("float16", "bfloat16", "float32"):
        assert EngineArgs("m", dtype=getattr(torch, name)).dtype == name
    with pytest.raises(ValueError, match="dtype must be one of auto, float32"):
        EngineArgs("m", dtype=torch.int8)


def test_vllm_s_modules_have_vllm_s_names():
    pytest.importorskip("torch")
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs as Args
    from vllm.engine.async_llm_engine import AsyncLLMEngine
    from vllm.entrypoints.llm import LLM
    from vllm.inputs import TextPrompt, TokensPrompt

    assert (Args, AsyncLLMEngine, LLM) == (vllm.AsyncEngineArgs, vllm.AsyncLLMEngine, vllm.LLM)
    assert (TextPrompt, TokensPrompt) == (vllm.TextPrompt, vllm.TokensPrompt)


@pytest.fixture(scope="module")
def llm(chat_model):
    from vllm import LLM

    return LLM(str(chat_model.folder), num_kv_blocks=64, tensor_parallel_size=1, dtype="float")


GREEDY = {"temperature": 0, "max_tokens": 5, "ignore_eos": True}


def test_a_script_for_vllm(llm):
    """As its documentation shows it, and as older versions had it."""
    from vllm import SamplingParams, TextPrompt, TokensPrompt

    params = SamplingParams(**GREEDY)
    ids = llm.llm_engine.tokenizer.encode("the cat")
    outputs = [
        llm.generate(["the cat"], params, use_tqdm=False, lora_request=None),
        llm.generate(TextPrompt(prompt="the cat"), sampling_params=params),
        llm.generate([TokensPrompt(prompt_token_ids=ids)], params),
        llm.generate(None, params, [ids]),
        llm.generate(prompt_token_ids=ids, sampling_params=params),
        llm.generate(["the cat"], params, prompt_token_ids=[ids]),
    ]
    assert len({output[0].outputs[0].text for output in outputs}) == 1
    assert outputs[-1][0].prompt == "the cat"
    with pytest.raises(ValueError, match="one list per prompt: got 1 for 2 prompts"):
        llm.generate(["a", "b"], params, prompt_token_ids=[ids])
    with pytest.raises(ValueError, match=r"LLM.generate takes lora_request only as None, got 5"):
        llm.generate("a", params, lora_request=5)
    with pytest.raises(TypeError, match=r"LLM.chat\(\) got an unexpected keyword argument 'moood'"):
        llm.chat([{"role": "user", "content": "a"}], params, moood=1)


def test_the_tokenizer_is_one_of_transformers(llm):
    transformers = pytest.importorskip("transformers")
    tokenizer = llm.get_tokenizer()
    assert isinstance(tokenizer, transformers.PreTrainedTokenizerBase)
    assert llm.get_tokenizer() is tokenizer
    own, messages = llm.engine.tokenizer, [{"role": "user", "content": "the cat"}]
    assert tokenizer("the cat").input_ids == own.encode("the cat")
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == own.apply_chat_template(messages)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_not_there_says_why(llm, name):
    with pytest.raises(AttributeError, match=rf"vLLM's LLM\.{name} is not supported: "):
        getattr(llm, name)
    assert not hasattr(llm, name)


def test_a_name_that_neither_library_has_is_an_ordinary_error(llm):
    with pytest.raises(AttributeError, match=r"'LLM' object has no attribute 'generat'"):
        llm.generat  # noqa: B018
    assert copy.copy(llm).engine is llm.engine  # asks an object without attributes for methods


def test_engines_step_by_step_and_in_a_loop(chat_model):
    """The loops of vLLM's examples llm_engine_example and of its async engine."""
    import asyncio

    from vllm import AsyncLLMEngine, LLMEngine, SamplingParams

    args = AsyncEngineArgs(model=str(chat_model.folder), num_gpu_blocks_override=64)
    params = SamplingParams(**GREEDY)
    engine = LLMEngine.from_engine_args(args)
    engine.add_request("0", "the cat", params)
    finished = []
    while engine.has_unfinished_requests():
        finished += [output for output in engine.step() if output.finished]
    assert engine.get_num_unfinished_requests() == 0
    assert not engine.has_unfinished_requests  # as a property

    async def run():
        served = AsyncLLMEngine.from_engine_args(args)
        async for output in served.generate("the cat", sampling_params=params, request_id="0"):
            last = output
        await served.shutdown()
        return last

    assert asyncio.run(run()).outputs[0].token_ids == finished[0].outputs[0].token_ids
