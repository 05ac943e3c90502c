"""Which conversations the event loop renders itself, and which it hands to a thread."""

from __future__ import annotations

import threading

import pytest

from vllm.engine.async_engine import SHORT_TEXT
from vllm.entrypoints.openai import prompts
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.text.template_sandbox import SANDBOX

SHORT = {"messages": [{"role": "user", "content": "the cat"}]}
TOOL = {"type": "function", "function": {"name": "turn"}}


def is_short(**fields):
    return prompts.is_short_chat(ChatRequest.model_validate({**SHORT, **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "x" * SHORT_TEXT}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"tools": [TOOL]},
        {"documents": [{"text": "x"}]},
        {"chat_template": "{{ 1 }}"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_only_short_conversations_by_the_models_template_are_short(fields):
    assert is_short()
    assert not is_short(**fields)


def test_none_is_short_while_another_is_rendered():
    """The event loop must not wait for it."""
    with SANDBOX._lock:
        assert not is_short()


def test_where_each_is_rendered(server, monkeypatch):
    threads = []
    of_chat = prompts.of_chat

    def watched(*args, **kwargs):
        threads.append(threading.get_ident())
        return of_chat(*args, **kwargs)

    monkeypatch.setattr(prompts, "of_chat", watched)
    for fields in ({}, {"documents": [{"text": "x"}]}):
        answer = server.post("/v1/chat/completions", **SHORT, **fields, max_tokens=1)
        assert answer.status_code == 200
    loop = server.loop._thread_id
    assert [thread == loop for thread in threads] == [True, False]
