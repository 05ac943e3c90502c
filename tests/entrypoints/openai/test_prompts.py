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
    "completion": lambda served: prompts.of_completion(
        served, CompletionRequest(prompt="hi", truncate_prompt_tokens=160)
    ),
    "chat": lambda served: prompts.of_chat(
        served, MESSAGES, ChatRequest(messages=MESSAGES), truncate=160
    ),
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_a_prompt_cut_beyond_the_context_is_not_encoded(request_of):
    """There may be megabytes of it. This server has no tokenizer."""
    served = SimpleNamespace(
        max_model_len=160,
        admission=SimpleNamespace(check=lambda count: None),
        options=SimpleNamespace(trust_request_chat_template=False, chat_template=None),
    )
    with pytest.raises(ApiError, match="truncate_prompt_tokens must be at most 159"):
        request_of(served)
