"""Events made from a template are those that pydantic makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.entrypoints.openai.protocol.chat import AnswerMessage, ChatChunk, ChatChunkChoice
from vllm.entrypoints.openai.protocol.completions import CompletionAnswer, CompletionChoice
from vllm.entrypoints.openai.streaming import EventTemplate, event

# What a detokenizer returns: no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


def completion(text, name):
    choice = CompletionChoice(index=3, text=text, logprobs=None, finish_reason=None)
    answer = CompletionAnswer(
        id=name, object="text_completion", created=5, model=name, choices=[choice]
    )
    return event(answer.json_text())


def chunk(text, name):
    choice = ChatChunkChoice(
        index=3, delta=AnswerMessage(content=text), logprobs=None, finish_reason=None
    )
    answer = ChatChunk(
        id=name, object="chat.completion.chunk", created=5, model=name, choices=[choice]
    )
    return event(answer.json_text())


@pytest.mark.parametrize("make", [completion, chunk])
@given(text=TEXTS, name=TEXTS)
def test_the_bytes_are_the_same(make, text, name):
    template = EventTemplate(lambda given: make(given, name))
    assert template.event(text) == make(text, name).encode()


@pytest.mark.parametrize("make", [completion, chunk])
def test_a_name_that_looks_like_the_text_is_left(make):
    name = "\x00text\x00"
    assert EventTemplate(lambda text: make(text, name)).event("é\n") == make("é\n", name).encode()


@pytest.mark.parametrize(
    ("path", "model", "body"),
    [
        ("/v1/completions", CompletionAnswer, {"prompt": "the cat", "n": 2}),
        ("/v1/completions", CompletionAnswer, {"prompt": ["a", "b"], "echo": True}),
        ("/v1/completions", CompletionAnswer, {"prompt": "a", "logprobs": 1}),
        ("/v1/chat/completions", ChatChunk, {"messages": [{"role": "user", "content": "hi"}]}),
        (
            "/v1/chat/completions",
            ChatChunk,
            {"messages": [{"role": "user", "content": "hi"}], "n": 2, "logprobs": True},
        ),
    ],
)
@pytest.mark.parametrize("usage", [None, {"include_usage": True, "continuous_usage_stats": True}])
def test_a_stream_is_what_the_models_make(server, path, model, body, usage):
    sent = {**body, "max_tokens": 12, "ignore_eos": True, "stream": True, "stream_options": usage}
    lines = server.http.post(path, json=sent).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert len(lines) > 2  # a busy machine's events have several tokens each
    for line in lines[:-2]:
        assert line == "data: " + model.model_validate_json(line[len("data: ") :]).json_text()
