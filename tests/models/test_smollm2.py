"""A model that was trained: its tokens are those of transformers, and its text is sense."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tests.models.support  # noqa: F401  one thread: more would wait for each other
from vllm import LLM, SamplingParams

TALK = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = [
    "Water boils at",
    "def fibonacci(n):\n    ",
    "In 1969, 3 men — naïve ones — flew",
]


@pytest.fixture(scope="module")
def llm(smollm2):
    return LLM(str(smollm2), num_kv_blocks=128)


@pytest.fixture(scope="module")
def their_tokenizer(smollm2):
    return AutoTokenizer.from_pretrained(smollm2)


def test_text_becomes_the_tokens_of_transformers(llm, their_tokenizer):
    for prompt in PROMPTS:
        ids = llm.engine.tokenizer.encode(prompt)
        assert ids == their_tokenizer(prompt).input_ids
        assert llm.engine.tokenizer.decode(ids) == prompt
    ours = llm.engine.tokenizer.apply_chat_template(TALK)
    assert ours == their_tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True
    )
    # One token each, digits one by one.
    assert llm.engine.tokenizer.encode("<|im_start|>1969") == [1, *[33, 41, 38, 41]]


def test_greedy_tokens_equal_transformers(smollm2, llm, their_tokenizer):
    theirs = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    outputs = llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=24, ignore_eos=True))
    for prompt, output in zip(PROMPTS, outputs):
        ids = torch.tensor([their_tokenizer(prompt).input_ids])
        found = theirs.generate(ids, do_sample=False, min_new_tokens=24, max_new_tokens=24)
        assert output.outputs[0].token_ids == found[0, ids.shape[1] :].tolist()


def test_it_answers(llm):
    (answer,) = llm.chat(TALK, SamplingParams(temperature=0, max_tokens=32))
    assert answer.outputs[0].text == "The capital of France is Paris."
    assert answer.outputs[0].finish_reason == "stop"
