"""Prompts of requests that are refused before their text is encoded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vllm.entrypoints.openai import prompts
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.completions import CompletionRequest

MESSAGES = [{"role": "user", "content": "hi"}]
REQUESTS = {
    "completion": lambda served, kept: prompts.of_completion(
        served, CompletionRequest(prompt="hi", truncate_prompt_tokens=kept)
    ),
    "chat": lambda served, kept: prompts.of_chat(
        served, MESSAGES, ChatRequest(messages=MESSAGES), truncate=kept
    ),
}


@pytest.mark.parametrize("kept", [160, 0, -2])
@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_a_prompt_cut_to_an_impossible_length_is_not_encoded(request_of, kept):
    """There may be megabytes of it. This server has no tokenizer."""
    served = SimpleNamespace(
        max_model_len=160,
        admission=SimpleNamespace(check=lambda count: None),
        options=SimpleNamespace(trust_request_chat_template=False, chat_template=None),
    )
    wrong = rf"must be in \[1, 159\], .* or -1 for as many as fit, got {kept}"
    with pytest.raises(ApiError, match=wrong) as raised:
        request_of(served, kept)
    assert raised.value.param == "truncate_prompt_tokens"
