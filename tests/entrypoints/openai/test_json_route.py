"""Requests that take the short way get what FastAPI's general way gives them."""

from __future__ import annotations

import json

import pytest

from vllm.entrypoints.openai.protocol.completions import CompletionRequest

GENERAL = "application/json; charset=utf-8"  # which the short way leaves to the other
GREEDY = {"temperature": 0, "max_tokens": 3}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def both_ways(server):
    """both_ways(path, content) -> status and JSON, without what differs between any two answers."""

    def post(path, content, kind):
        response = server.http.post(path, content=content, headers={"content-type": kind})
        answer = response.json()
        for name in ("id", "created"):
            answer.pop(name, None)
        answer.get("usage", {}).pop("prompt_tokens_details", None)
        return response.status_code, answer

    def ask(path, content):
        short, general = (post(path, content, kind) for kind in ("application/json", GENERAL))
        assert short == general
        return short

    return ask


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v1/completions", json.dumps({"prompt": "the cat", **GREEDY}), 200),
        ("/v1/chat/completions", json.dumps({**CHAT, **GREEDY}), 200),
        ("/tokenize", '{"prompt": "the cat"}', 200),
        ("/tokenize", '{"prompt": 1}', 400),
        ("/v1/completions", '{"prompt": "\\ud800", "max_tokens": 1, "temperature": 0}', 400),
        ("/v1/completions", b"\xff\xfe", 400),
        ("/v1/completions", "", 400),
        ("/v1/completions", "{", 400),
        ("/v1/completions", "[1]", 400),
        ("/v1/completions", "{}", 400),
        ("/v1/completions", '{"prompt": 1.5}', 400),
        ("/v1/completions", '{"prompt": "a", "max_tokens": "x"}', 400),
        ("/v1/completions", '{"prompt": "a", "temperature": NaN}', 400),
        ("/v1/completions", '{"prompt": "a", "suffix": "b"}', 400),
        ("/v1/completions", '{"prompt": "a", "model": "other"}', 404),
        ("/v1/completions", '{"prompt": ' + "[" * 5000 + "]" * 5000 + "}", 400),
        ("/v1/chat/completions", '{"messages": []}', 400),
        ("/v1/chat/completions", '{"messages": [{"content": "hi"}]}', 400),
    ],
)
def test_answers_and_errors_are_the_same(both_ways, path, content, status):
    found, _ = both_ways(path, content)
    assert found == status


def test_a_valid_request_is_not_validated_by_fastapi(server, monkeypatch):
    """It would validate the body without `model_validate`."""
    called = []
    original = CompletionRequest.model_validate

    def noted(given):
        called.append(given)
        return original(given)

    monkeypatch.setattr(CompletionRequest, "model_validate", noted)
    body = {"prompt": "the cat", **GREEDY}
    assert server.post("/v1/completions", **body).status_code == 200
    assert called == [body]
