"""Tool calls and reasoning with OpenAI's client: complete and streamed.

A random model writes no calls: what it "writes" is put where its text comes out of the engine, in
pieces of every size. All else is the server's.
"""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.entrypoints.openai.support import let_model_write, running

MESSAGES = [{"role": "user", "content": "the cat"}]


def tool(name):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("weather"), tool("time")]
CALLS = (
    "<think>First, the weather.</think>I shall ask."
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
)
EXPECTED = {
    "reasoning": "First, the weather.",
    "content": "I shall ask.",
    "calls": [("weather", {"city": "Köln"}), ("time", {})],
}


@pytest.fixture(scope="module")
def server(chat_model):
    with running(chat_model.folder, tool_call_parser="hermes", reasoning_parser="qwen3") as server:
        yield server


@pytest.fixture(params=[1, 2, 7, 1000])
def says(request, monkeypatch):
    """says(text): what the model writes, in pieces of one size."""
    return partial(let_model_write, monkeypatch, size=request.param)


def ask(client, **fields):
    """The message and the finish reason, whole and put together from a stream; they are equal."""
    fields = {"model": "tiny", "messages": MESSAGES, "tools": TOOLS, "max_tokens": 1, **fields}
    (choice,) = client.chat.completions.create(**fields).choices
    message = choice.message
    whole = {
        "reasoning": getattr(message, "reasoning", None),
        "content": message.content,
        "calls": [
            (call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or []
        ],
    }
    streamed = {"reasoning": "", "content": ""}
    names, arguments, ids, reason = {}, {}, set(), None
    for chunk in client.chat.completions.create(stream=True, **fields):
        (part,) = chunk.choices
        streamed["content"] += part.delta.content or ""
        streamed["reasoning"] += getattr(part.delta, "reasoning", None) or ""
        for call in part.delta.tool_calls or []:
            if call.function.name is not None:
                assert call.index not in names
                assert call.type == "function"
                names[call.index] = call.function.name
                ids.add(call.id)
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
        reason = part.finish_reason or reason
    assert len(ids) == len(names)
    streamed["calls"] = [(names[i], json.loads(arguments[i])) for i in sorted(names)]
    assert {key: value or None for key, value in streamed.items()} == {
        key: value or None for key, value in whole.items()
    }
    assert reason == choice.finish_reason
    return whole, reason


def test_calls_and_reasoning(client, says):
    says(CALLS)
    assert ask(client) == (EXPECTED, "tool_calls")


def test_one_call_where_no_more_are_wanted(client, says):
    says(CALLS)
    message, reason = ask(client, parallel_tool_calls=False)
    assert message["calls"] == EXPECTED["calls"][:1]
    assert reason == "tool_calls"


def test_no_calls_without_tools(client, says):
    says(CALLS)
    for fields in ({"tools": []}, {"tool_choice": "none"}):
        message, reason = ask(client, **fields)
        assert message["content"] == CALLS.partition("</think>")[2]
        assert (message["reasoning"], message["calls"]) == (EXPECTED["reasoning"], [])
        assert reason == "stop"


def test_reasoning_may_be_left_out(client, says):
    says(CALLS)
    message, _ = ask(client, extra_body={"include_reasoning": False})
    assert message == {**EXPECTED, "reasoning": None}


def test_plain_text_stays_as_it_is(client, says):
    says("just < text", reason="length")
    message, reason = ask(client)
    assert message == {"reasoning": None, "content": "just < text", "calls": []}
    assert reason == "length"


@pytest.mark.parametrize(
    ("choice", "names", "reason"),
    [
        ("required", {"weather", "time"}, "tool_calls"),
        ({"type": "function", "function": {"name": "time"}}, {"time"}, "stop"),
    ],
    ids=["required", "named"],
)
def test_a_call_is_forced(client, choice, names, reason):
    """Of a model that would not call anything by itself, in a server that knows its format."""
    point = {"$ref": "#/$defs/side"}
    sides = {"side": {"enum": ["left", "right"]}}
    offered = []
    for name in ("weather", "time"):
        schema = {"type": "object", "properties": {"side": point}, "$defs": sides}
        schema.update(required=["side"], additionalProperties=False)
        offered.append({"type": "function", "function": {"name": name, "parameters": schema}})
    options = {"tools": offered, "tool_choice": choice, "max_tokens": 140, "seed": 1}
    blanks = {"bad_words": [" ", "\n", "\r", "\t"]}  # of which it would be fond
    message, ended = ask(client, **options, extra_body=blanks)
    ((name, arguments),) = message["calls"]
    assert name in names
    assert arguments["side"] in ("left", "right")
    assert ended == reason
    assert not message["content"]


def test_the_template_gets_the_tools_and_earlier_calls(chat_model):
    template = (
        "{% for tool in tools %}{{ tool.function.name }} {% endfor %}"
        "{% for message in messages %}{% for call in message.tool_calls or [] %}"
        "{{ call.function.name }} {% endfor %}"
        "{{ message.content or '' }}{% endfor %}{{ documents[0].title }}{{ reasoning_effort }}"
    )
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "user", "content": "how is it"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": " sun "},
    ]
    options = {"chat_template": template, "tool_call_parser": "hermes"}
    with running(chat_model.folder, **options) as server:
        body = {
            "messages": messages,
            "tools": TOOLS,
            "max_tokens": 1,
            "prompt_logprobs": 0,
            "documents": [{"title": "cat"}],
            "reasoning_effort": "low",
        }
        answer = server.post("/v1/chat/completions", **body).json()
        told = [next(iter(each.values())) for each in answer["prompt_logprobs"][1:]]
        text = "".join(each["decoded_token"] for each in told)
    assert "weather time how is itweather  sun catlow".endswith(text)
    assert len(text) > 35


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tools": [{"type": "function"}]}, "tools.0.function is missing"),
        ({"tools": [{"type": "web", "function": {"name": "f"}}]}, "tools.0.type must be"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice must be"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice names 'f', which is not in tools",
        ),
        (
            {"tools": TOOLS, "tool_choice": "required", "structured_outputs": {"regex": "a"}},
            "structured_outputs contradicts a tool_choice that forces a call",
        ),
    ],
)
def test_what_is_no_tool(server, fields, message):
    response = server.post("/v1/chat/completions", messages=MESSAGES, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


def test_tools_need_to_be_known(chat_model):
    with running(chat_model.folder) as server:
        response = server.post("/v1/chat/completions", messages=MESSAGES, tools=TOOLS)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "tools are not supported: this server was started without --tool-call-parser"
    )
