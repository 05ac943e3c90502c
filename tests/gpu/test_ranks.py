"""A model on two GPUs: its tokens are those of one, and no rank outlives another."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from tests.models.support import FAMILIES  # noqa: E402
from tests.worker.ranks.faults import (  # noqa: E402
    FAULTS,
    PROGRAM_FAULTS,
    run,
    run_program,
)
from tests.worker.ranks.test_rank_faults import interrupt, name_of  # noqa: E402
from tests.worker.ranks.test_ranks_parity import (  # noqa: E402
    BFLOAT16_BOUND,
    BFLOAT16_FAMILIES,
    PARAMS,
    PROMPTS,
    SETTINGS,
    bfloat16_error,
    constrained,
    logprobs_of,
    tokens_of,
)
from vllm.llm import LLM  # noqa: E402

WAYS = {
    "graphs and overlap": {},
    "graphs": {"async_scheduling": False},
    "kernel by kernel": {"enforce_eager": True},
    "preemption": SETTINGS["preemption"],
}


@pytest.fixture(autouse=True)
def _two_gpus():
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"needs two GPUs, torch sees {count}")


def make_llm(folder, **kwargs):
    kwargs = {**SETTINGS["default"], **kwargs}
    return LLM(folder, skip_tokenizer_init=True, device="cuda", **kwargs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_those_of_one_gpu(tiny, family, way):
    expected = make_llm(tiny(family).folder, **WAYS[way]).generate(PROMPTS, PARAMS)
    llm = make_llm(tiny(family).folder, tensor_parallel_size=2, **WAYS[way])
    outputs = [llm.generate(PROMPTS, PARAMS) for _ in range(3)]  # the third time by graphs
    assert [tokens_of(each) for each in outputs] == [tokens_of(expected)] * 3
    assert logprobs_of(outputs[0]) == pytest.approx(logprobs_of(expected), abs=1e-3)
    llm.engine.executor.close()


@pytest.mark.parametrize("overlap", [False, True])
def test_grammars_lists_of_tokens_and_beams_equal_those_of_one_gpu(chat_model, overlap):
    expected = constrained(chat_model, 1, "cuda", overlap)
    assert constrained(chat_model, 2, "cuda", overlap) == expected


@pytest.mark.parametrize("family", BFLOAT16_FAMILIES)
def test_bfloat16_logits_are_as_close_as_those_of_one_gpu(tiny, family):
    alone = bfloat16_error(tiny(family), 1, "cuda")
    assert 0 < bfloat16_error(tiny(family), 2, "cuda") <= BFLOAT16_BOUND * alone


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_engine_ends_with_the_error_of_the_rank(tiny, fault):
    said, _ = run(fault, tiny("qwen3").folder, "cuda")
    assert re.match(fault.says, said)


@pytest.mark.parametrize("fault", PROGRAM_FAULTS, ids=name_of)
def test_without_rank_0_the_others_end(tiny, fault):
    said, _ = run_program(fault, tiny("qwen3").folder, "cuda")
    assert re.search(fault.says, said)


def test_ctrl_c_leaves_nothing(tiny):
    interrupt(tiny("qwen3").folder, "cuda")
