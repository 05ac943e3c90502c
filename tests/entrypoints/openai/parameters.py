"""Requests that together have every parameter of every endpoint, and the clients that send them."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from vllm.entrypoints.anthropic.protocol import MessagesRequest
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.completions import CompletionRequest
from vllm.entrypoints.openai.protocol.responses import ResponsesRequest
from vllm.entrypoints.openai.protocol.tokens import DetokenizeRequest, TokenizeRequest

ENDPOINTS = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
# A letter for each client: the table in docs/serving.md has these. `test_parameters` sends the
# requests with each of the endpoint's clients.
LETTERS = {
    "P": "`openai` for Python",
    "N": "`openai` for Node",
    "A": "`anthropic` for Python",
    "c": "`curl`",
}
CLIENTS: Mapping[str, str] = {
    "/v1/completions": "PNc",
    "/v1/chat/completions": "PNc",
    "/v1/responses": "PNc",
    "/v1/messages": "Ac",
    "/tokenize": "c",
    "/detokenize": "c",
}

# Stands for the id of the first answer that the client got.
FIRST = "the first"

_MODEL = {"model": "tiny"}
_SHORT = {**_MODEL, "temperature": 0.5, "seed": 1}
_TURNS = [{"role": "user", "content": "the cat"}]
_SCHEMA = {
    "type": "object",
    "properties": {"side": {"enum": ["left", "right"]}},
    "required": ["side"],
    "additionalProperties": False,
}
# A random model would fill the space that JSON allows between its parts.
_DENSE = {"bad_words": [" ", "\n", "\r", "\t"]}
_FUNCTION = {"name": "turn", "description": "to a side", "parameters": _SCHEMA}
_SAMPLED: Dict[str, Any] = {
    **_SHORT,
    "n": 2,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.01,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {"7": 1.5},
    "allowed_token_ids": list(range(64, 200)),
    "bad_words": ["zebra"],
    "ignore_eos": True,
    "min_tokens": 2,
    "request_id": "mine",
    "cache_salt": "salt",
    "priority": 0,
}
_ENDED: Dict[str, Any] = {
    **_SHORT,
    "stop": ["zebra"],
    "stop_token_ids": [9],
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "prompt_logprobs": 1,
    "return_tokens_as_token_ids": True,
    "truncate_prompt_tokens": 2,
}
_STREAMED: Dict[str, Any] = {
    **_SHORT,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
_JSON = {"type": "json_schema", "json_schema": {"name": "turn", "schema": _SCHEMA}}

CASES: Mapping[str, List[Dict[str, Any]]] = {
    "/v1/completions": [
        {**_SAMPLED, "prompt": "the cat", "max_tokens": 4},
        {**_ENDED, "prompt": [5, 6, 7], "max_tokens": 4, "logprobs": 2},
        {**_STREAMED, "prompt": ["the cat", "a dog"], "max_tokens": 4, "echo": True},
        {**_SHORT, "prompt": "a", "add_special_tokens": False, "response_format": _JSON, **_DENSE},
        {**_SHORT, "prompt": "a", "structured_outputs": {"regex": "[ab]{3}"}},
    ],
    "/v1/chat/completions": [
        {**_SAMPLED, "messages": _TURNS, "max_completion_tokens": 4},
        {**_ENDED, "messages": _TURNS, "max_tokens": 4, "logprobs": True, "top_logprobs": 2},
        {**_STREAMED, "messages": _TURNS, "max_tokens": 4, "include_reasoning": False},
        {
            **_SHORT,
            **_DENSE,
            "messages": _TURNS,
            "max_tokens": 140,
            "response_format": _JSON,
            "reasoning_effort": "low",
            "chat_template_kwargs": {"enable_thinking": False},
            "documents": [{"title": "a", "text": "b"}],
        },
        {
            **_SHORT,
            "messages": [*_TURNS, {"role": "assistant", "content": "sat"}],
            "structured_outputs": {"choice": ["left", "right"]},
            "add_generation_prompt": False,
            "continue_final_message": True,
            "add_special_tokens": True,
            "echo": True,
        },
        {
            **_SHORT,
            **_DENSE,
            "messages": _TURNS,
            "max_tokens": 140,
            "tools": [{"type": "function", "function": _FUNCTION}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
        {
            **_SHORT,
            "messages": _TURNS,
            "max_tokens": 4,
            "chat_template": "{{ messages[0].content }}",
        },
    ],
    "/v1/responses": [
        {
            **_SHORT,
            "input": "the cat",
            "instructions": "be short",
            "max_output_tokens": 4,
            "top_p": 0.9,
            "top_k": 40,
            "metadata": {"a": "b"},
            "reasoning": {"effort": "low"},
            "include": ["reasoning.encrypted_content"],
            "store": True,
        },
        {
            **_SHORT,
            "input": _TURNS,
            "max_output_tokens": 4,
            "tools": [{"type": "function", **_FUNCTION}],
            "tool_choice": "none",
            "parallel_tool_calls": False,
            "text": {"format": {"type": "text"}},
            "stream": True,
        },
        {**_SHORT, "input": "and", "max_output_tokens": 4, "background": True},
        {**_SHORT, "input": "then", "max_output_tokens": 4, "previous_response_id": FIRST},
    ],
    "/v1/messages": [
        {
            **_MODEL,
            "messages": _TURNS,
            "system": "be short",
            "max_tokens": 4,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "stop_sequences": ["zebra"],
            "thinking": {"type": "disabled"},
            "stream": True,
        },
        {
            **_MODEL,
            "messages": _TURNS,
            "max_tokens": 4,
            "tools": [{"name": "turn", "description": "to a side", "input_schema": _SCHEMA}],
            "tool_choice": {"type": "none"},
            "output_config": {"effort": "low"},
        },
    ],
    "/tokenize": [
        {**_MODEL, "prompt": "the cat", "add_special_tokens": True, "return_token_strs": True},
        {
            **_MODEL,
            "messages": [*_TURNS, {"role": "assistant", "content": "sat"}],
            "add_generation_prompt": False,
            "continue_final_message": True,
            "documents": [{"title": "a", "text": "b"}],
            "reasoning_effort": "low",
            "chat_template": "{{ messages[0].content }}{{ messages[1].content }}",
            "chat_template_kwargs": {"enable_thinking": False},
        },
    ],
    "/detokenize": [{**_MODEL, "tokens": [5, 6, 7]}],
}
