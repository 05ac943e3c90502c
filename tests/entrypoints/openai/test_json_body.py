"""Bodies that are no JSON, no text, or nested too deeply."""

from __future__ import annotations

import json

import pytest

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.json_body import MAX_DEPTH, parse

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
HI = [{"role": "user", "content": "hi"}]
HALF = "the body has '\\ud800', which is half of a surrogate pair: escape the whole character, or "
DEEP = f"the body has lists and objects more than {MAX_DEPTH} deep"


def nested(depth, value=1):
    for _ in range(depth):
        value = {"items": value}
    return value


# Where JSON of any shape has a place: read by pydantic, the template, the grammar or nobody.
PLACES = {
    "template": (CHAT, lambda any: {"messages": HI, "chat_template_kwargs": {"a": any}}),
    "message": (CHAT, lambda any: {"messages": [{**HI[0], "a": any}]}),
    "documents": (CHAT, lambda any: {"messages": HI, "documents": [{"a": any}]}),
    "tools": (CHAT, lambda any: {"messages": HI, "tools": [_tool(any)]}),
    "forced": (
        CHAT,
        lambda any: {"messages": HI, "tools": [_tool(any)], "tool_choice": "required"},
    ),
    "schema": (COMPLETIONS, lambda any: {"prompt": "hi", "structured_outputs": {"json": any}}),
    "unknown": (COMPLETIONS, lambda any: {"prompt": "hi", "a": any}),
    "wrong": (COMPLETIONS, lambda any: {"prompt": any}),
    "response": (RESPONSES, lambda any: {"input": "hi", "metadata": {"a": any}}),
    "anthropic": (
        MESSAGES,
        lambda any: {
            "messages": HI,
            "max_tokens": 1,
            "tools": [{"name": "a", "input_schema": any}],
        },
    ),
    "tokenize": ("/tokenize", lambda any: {"messages": HI, "chat_template_kwargs": {"a": any}}),
}


def _tool(parameters):
    return {"type": "function", "function": {"name": "a", "parameters": parameters}}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("depth", [MAX_DEPTH, 2 * MAX_DEPTH, 100_000])
def test_lists_and_objects_too_deep(server, place, depth):
    path, body = PLACES[place]
    text = json.dumps(body("HERE")).replace('"HERE"', '{"items":' * depth + "1" + "}" * depth)
    response = _post(server, path, text.encode())
    assert response.status_code == 400
    assert response.json()["error"]["message"] == DEEP


@pytest.mark.parametrize("place", PLACES)
def test_as_deep_as_is_allowed(server, place):
    path, body = PLACES[place]
    deepest = max(d for d in range(MAX_DEPTH) if _is_taken(body(nested(d))))
    limit = {"max_output_tokens" if path == RESPONSES else "max_tokens": 1}
    response = server.post(path, **{**body(nested(deepest)), **limit})
    assert deepest > MAX_DEPTH - 8
    assert response.status_code in (200, 400)  # 400: no schema, no prompt
    assert "deep" not in response.text


def _is_taken(body):
    try:
        parse(json.dumps(body).encode())
    except ApiError:
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stream", [False, True])
def test_half_of_a_surrogate_pair(server, place, stream):
    path, body = PLACES[place]
    text = json.dumps({**body("HERE"), "stream": stream}).replace("HERE", r"a\ud800b")
    response = _post(server, path, text.encode())
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(HALF)


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\uD83D\uDE00", r"\\ud800", "😀", r"\ufffd"])
def test_whole_characters(server, text):
    response = _post(server, "/tokenize", f'{{"prompt": "{text}"}}'.encode())
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"prompt": "hi"', "the body is not JSON: Expecting ',' delimiter"),
        (b'{"prompt": "\xe9"}', "the body is not JSON, which is encoded in UTF-8: 'utf-8' codec"),
        (b"\0\0\0\0\0", "the body is not JSON, which is encoded in UTF-8: 'utf-32-be' codec"),
        (b'{"prompt": "hi", "seed": %s}' % (b"9" * 5000), "the body has a number that cannot"),
        (b"[]", "the body must be a JSON object, sent as application/json"),
        (b"", "the body must be a JSON object, sent as application/json"),
    ],
)
def test_no_json(server, body, message):
    response = _post(server, COMPLETIONS, body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


def _post(server, path, body):
    return server.http.post(path, content=body, headers={"Content-Type": "application/json"})
