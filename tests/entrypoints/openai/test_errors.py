"""Refused requests, their status codes and messages."""

from __future__ import annotations

import gzip
import logging
import zlib

import openai
import pytest

from tests.entrypoints.openai.support import running
from vllm.entrypoints.openai.protocol import base
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.completions import CompletionRequest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
# What the grammar allows alone is forbidden, which shows when a token has been drawn.
CONTRADICTION = {"structured_outputs": {"regex": "b+"}, "bad_words": ["b"]}
GAVE_UP = "structured_outputs: the grammar gave up: Parser Error: "

REFUSED = [
    (COMPLETIONS, {"prompt": "hi", "priority": 1}, "priority must be 0, got 1: this", "priority"),
    (CHAT, {"messages": HI, "priority": -1}, "priority must be 0, got -1: this", "priority"),
    (COMPLETIONS, {}, "prompt is missing", "prompt"),
    (
        COMPLETIONS,
        {"prompt": "hi", "request_id": "a" * 129},
        'request_id must be a text with at most 128 characters, got "aaa',
        "request_id",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "cache_salt": ""},
        'cache_salt must be a text with at least 1 character, got ""',
        "cache_salt",
    ),
    (COMPLETIONS, {"prompt": []}, "prompt must hold at least one prompt, got none", "prompt"),
    (
        COMPLETIONS,
        {"prompt": "", "add_special_tokens": False},
        "the prompt is empty: give at least one character or token",
        "prompt",
    ),
    (
        COMPLETIONS,
        {"prompt": ["hi", [320]]},
        "prompt must be a valid string, or a valid integer, or a valid list, got",
        "prompt",
    ),
    (
        COMPLETIONS,
        {"prompt": [[1], [320]]},
        "prompt 1: prompt token 0 must be an integer in [0, 320), got 320",
        "prompt",
    ),
    (
        COMPLETIONS,
        {"prompt": [1] * 160},
        "the prompt is too long: it has 160 tokens, and this model's maximum context length is 160 "
        "tokens (max_model_len), one of which is for the answer",
        "prompt",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "temperature": 101},
        "temperature must be less than or equal to 100, got 101",
        "temperature",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "n": "two"},
        'n must be a valid integer, got "two"',
        "n",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "stop": ""},
        "stop must be a non-empty string, or several, got ''",
        "stop",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "stop_token_ids": [999]},
        "stop_token_ids must be in [0, 320), got [999]",
        "stop_token_ids",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "n": 2, "temperature": 0},
        "n must be 1 with temperature 0, got 2: greedy decoding gives the same output 2 times",
        "n",
    ),
    (COMPLETIONS, {"prompt": "hi", "n": 129}, "n must be at most 128 (--max-n)", "n"),
    (
        COMPLETIONS,
        {"prompt": "a" * 10**7},
        "the prompt is too long: it has 10,000,000 characters, which are at least 769231 tokens, "
        "and this model's maximum context length is 160 tokens",
        "prompt",
    ),
    (
        CHAT,
        {"messages": [{"role": "user", "content": "a" * 10**6}]},
        "the prompt is too long: it has 1,000,028 characters, which are at least 76926 tokens, and "
        "this model's maximum context length is 160 tokens",
        None,
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "stop": ["s"] * 257},
        "stop must have at most 256 items, got 257",
        "stop",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "stop": "s" * 257},
        "stop must have at most 256 characters in a string, got 257",
        "stop",
    ),
    (
        CHAT,
        {"messages": HI, "bad_words": ["s"] * 257},
        "bad_words must have at most 256 items, got 257",
        "bad_words",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "stop_token_ids": [1] * 1025},
        "stop_token_ids must have at most 1024 items, got 1025",
        "stop_token_ids",
    ),
    (
        COMPLETIONS,
        {"prompt": [""] * 2049},  # nobody looks at the prompts
        "n × the number of prompts is 2049; this server queues at most 2048 "
        "(--max-queued-sequences)",
        "n",
    ),
    (
        COMPLETIONS,
        {"prompt": ["hi"] * 20, "n": 120},
        "n × the number of prompts is 2400; this server queues at most 2048 "
        "(--max-queued-sequences)",
        "n",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "logprobs": 21},
        "logprobs must be at most 20 (--max-logprobs)",
        "logprobs",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "prompt_logprobs": 21},
        "prompt_logprobs must be at most 20 (--max-logprobs)",
        "prompt_logprobs",
    ),
    (
        COMPLETIONS,
        {"prompt": [1, 2], "max_tokens": 159},
        "this model's maximum context length is 160 tokens: the prompt has 2, and max_tokens is "
        "159; request at most 158",
        "max_tokens",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "max_tokens": 0},
        "max_tokens must be at least 1, or echo true: nothing is requested",
        "max_tokens",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "truncate_prompt_tokens": 160},
        "truncate_prompt_tokens must be in [1, 159], which leaves room for one more token, or -1 "
        "for as many as fit, got 160",
        "truncate_prompt_tokens",
    ),
    (
        CHAT,
        {"messages": HI, "truncate_prompt_tokens": 0},
        "truncate_prompt_tokens must be in [1, 159], which leaves room for one more token, or -1 "
        "for as many as fit, got 0",
        "truncate_prompt_tokens",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "logit_bias": {"1": 200}},
        "logit_bias must be a mapping of token ids to numbers in [-100, 100], got",
        "logit_bias",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "response_format": {"type": "json_schema"}},
        "response_format must have a json_schema if that is its type",
        "response_format",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "structured_outputs": {}},
        "structured_outputs must have one of json, regex, choice, grammar, json_object, got none",
        "structured_outputs",
    ),
    (
        COMPLETIONS,
        {"prompt": "hi", "structured_outputs": {"regex": "[a-"}},
        'structured_outputs: at 1(8): invalid regex "[a-" (in regex): regex parse error: unclosed '
        "character class",
        "structured_outputs",
    ),
    (COMPLETIONS, {"prompt": "hi", **CONTRADICTION}, GAVE_UP, "structured_outputs"),
    (
        COMPLETIONS,
        {"prompt": "hi", "stream": True, **CONTRADICTION},
        GAVE_UP,
        "structured_outputs",
    ),
    (CHAT, {"messages": HI, **CONTRADICTION}, GAVE_UP, "structured_outputs"),
    (CHAT, {"messages": []}, "messages must hold at least one message, got none", "messages"),
    (CHAT, {"messages": [{"content": "hi"}]}, "messages.0.role is missing", "messages"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0] is of type 'image_url': this engine takes only text",
        "messages",
    ),
    (
        CHAT,
        {"messages": HI, "chat_template": "x"},
        "chat_template is refused: a template is code, and this server runs its model's own only "
        "(--trust-request-chat-template)",
        "chat_template",
    ),
    (
        CHAT,
        {"messages": HI, "continue_final_message": True},
        "continue_final_message continues the last message, add_generation_prompt begins a new "
        "one: set only one of them",
        "continue_final_message",
    ),
    (
        CHAT,
        {"messages": HI, "top_logprobs": 2},
        "top_logprobs needs logprobs to be true",
        "top_logprobs",
    ),
    (
        CHAT,
        {"messages": HI, "logprobs": True, "top_logprobs": 21},
        "top_logprobs must be at most 20 (--max-logprobs)",
        "top_logprobs",
    ),
    ("/tokenize", {}, "give either prompt or messages", "prompt"),
    ("/detokenize", {"tokens": [320]}, "tokens[0] must be in [0, 320), got 320", "tokens"),
]


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    REFUSED,
    ids=[f"{path} {message[:40]}" for path, _, message, _ in REFUSED],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refused_by_name(server, path, body, message, param, stream):
    asked = {**body, "stream": stream} if path.startswith("/v1") else body
    response = server.post(path, **asked)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


@pytest.mark.parametrize("model", [CompletionRequest, ChatRequest])
def test_every_field_that_is_lacking_is_refused(server, model):
    """Each by its name, unless its value asks for nothing; null never does."""
    path = COMPLETIONS if model is CompletionRequest else CHAT
    body = {"prompt": "hi", "max_tokens": 1} if path == COMPLETIONS else {"messages": HI}
    body["max_tokens"] = 1
    for name, refusal in model.REFUSED.items():
        response = server.post(path, **body, **{name: {"something": 1}})
        error = response.json()["error"]
        assert response.status_code == 400
        assert error["message"] == f"{name} is not supported: {refusal.reason}"
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        for neutral in (None, *refusal.neutral):
            assert server.post(path, **body, **{name: neutral}).status_code == 200, name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, {"prompt": [1] * 160}),
        (COMPLETIONS, {"prompt": "a" * 10**7}),
        (COMPLETIONS, {"prompt": [[1], [1] * 160]}),
        (COMPLETIONS, {"prompt": [1, 2], "max_tokens": 159}),
        (CHAT, {"messages": [{"role": "user", "content": "a" * 10**6}]}),
        (CHAT, {"messages": [{"role": "user", "content": "the cat " * 100}]}),
        (CHAT, {"messages": HI, "max_tokens": 1000}),
        ("/v1/responses", {"input": "the cat " * 100}),
    ],
)
def test_what_does_not_fit_has_the_code_that_clients_know(server, path, body):
    """By which, or by these words, they shorten a conversation."""
    error = server.post(path, **body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "this model's maximum context length is 160 tokens" in error["message"]


def test_the_best_of_as_many_as_are_returned(server):
    body = {"prompt": "hi", "max_tokens": 1, "temperature": 1}
    assert len(server.post(COMPLETIONS, **body, n=2, best_of=2).json()["choices"]) == 2
    assert server.post(COMPLETIONS, **body, n=2, best_of=3).status_code == 400


def test_true_is_not_one(server):
    """A neutral value is compared with its type: `1 == True` in Python."""
    assert server.post(COMPLETIONS, prompt="hi", max_tokens=1, best_of=True).status_code == 400


def test_fields_that_nobody_knows_are_accepted_and_logged_once(server, caplog, monkeypatch):
    # Names that other tests make up count toward the bound of what is logged.
    monkeypatch.setattr(base, "_logged", set())
    with caplog.at_level(logging.WARNING, logger="vllm"):
        for _ in range(2):
            body = {"prompt": "hi", "max_tokens": 1, "user": "me", "no_such_field": "secret"}
            assert server.post(COMPLETIONS, **body).status_code == 200
    told = [record.getMessage() for record in caplog.records]
    assert told == ["ignoring the unknown field 'no_such_field' (logged once)"]


def test_another_model_is_not_found(server, client):
    with pytest.raises(openai.NotFoundError, match="the model 'gpt-4' is not served here; tiny is"):
        client.chat.completions.create(model="gpt-4", messages=HI)
    error = server.post(COMPLETIONS, model="gpt-4", prompt="hi").json()["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{oops", "the body is not JSON: "),
        (b"[1]", "the body must be a JSON object, sent as application/json"),
        (b"", "the body must be a JSON object, sent as application/json"),
        (b'{"prompt": "\\ud800"}', "the body has '\\ud800', which is half of a surrogate pair"),
        (b'{"prompt": "\xff"}', ""),
    ],
)
def test_what_is_no_request(server, body, message):
    headers = {"Content-Type": "application/json"}
    response = server.http.post(COMPLETIONS, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/messages"])
def test_a_compressed_body_is_told_so(server, compress, path):
    headers = {"Content-Type": "application/json", "Content-Encoding": compress.__module__}
    body = compress(b'{"prompt": "hi"}')
    response = server.http.post(path, content=body, headers=headers)
    assert response.status_code == 415
    message = f"the body is compressed ({compress.__module__}); send it without Content-Encoding"
    assert response.json()["error"]["message"] == message


def test_a_form_is_no_request(server):
    """Nor what a page elsewhere can make a browser send without asking."""
    headers = {"Content-Type": "text/plain"}
    response = server.http.post(COMPLETIONS, content=b'{"prompt": "hi"}', headers=headers)
    assert response.status_code == 400


def test_paths_and_methods_that_are_not_there(server):
    for method, path, status in (("GET", "/v1", 404), ("GET", COMPLETIONS, 405)):
        response = server.http.request(method, path)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def open_engine(chat_model):
    """An engine that a test can break."""
    with running(chat_model.folder) as server:
        yield server


def test_an_error_of_the_engine_is_told_without_its_details(open_engine, monkeypatch, caplog):
    def broken(*args):
        raise ZeroDivisionError("a secret of the server")

    with monkeypatch.context() as patch:
        patch.setattr(open_engine.engine.engine.executor.runner.model, "forward", broken)
        response = open_engine.post(COMPLETIONS, prompt="hi")
    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": "internal error (ZeroDivisionError); the server's log has more",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert "a secret of the server" in caplog.text
    assert open_engine.post(COMPLETIONS, prompt="hi").status_code == 200


def test_an_error_within_a_stream_is_an_event(open_engine, monkeypatch):
    forward = open_engine.engine.engine.executor.runner.model.forward
    steps = []

    def fails_later(*args):
        steps.append(args)
        return forward(*args) if len(steps) < 4 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(open_engine.engine.engine.executor.runner.model, "forward", fails_later)
        body = {"prompt": "hi", "stream": True, "ignore_eos": True, "logprobs": 0}
        text = open_engine.post(COMPLETIONS, **body).text
    assert text.endswith("data: [DONE]\n\n")
    assert '"internal error (ZeroDivisionError)' in text.split("\n\n")[-3]
    assert not any(open_engine.settled().values())
