"""/v1/messages with Anthropic's own client: the library's results, in Anthropic's format."""

from __future__ import annotations

from functools import partial

import anthropic
import pytest

from tests.entrypoints.openai.support import let_model_write, running

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "the cat"}], "max_tokens": 12}
GREEDY = {"extra_body": {"temperature": 0}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("weather", "time")]
CALLS = (
    "<think>First, the weather.</think>I shall ask."
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
)
BLOCKS = [
    {"type": "thinking", "thinking": "First, the weather.", "signature": ""},
    {"type": "text", "text": "I shall ask."},
    {"type": "tool_use", "name": "weather", "input": {"city": "Köln"}},
    {"type": "tool_use", "name": "time", "input": {}},
]


@pytest.fixture(params=[1, 7, 1000])
def says(request, monkeypatch):
    """says(text): what the model writes, in pieces of one size."""
    return partial(let_model_write, monkeypatch, size=request.param)


def plain(message):
    """What a message says, without its ids; each call has one of its own."""
    content = [block.model_dump(exclude_none=True) for block in message.content]
    ids = [block.pop("id") for block in content if block["type"] == "tool_use"]
    assert all(id.startswith("toolu_") for id in ids)
    assert len(set(ids)) == len(ids)
    return content, message.stop_reason, message.stop_sequence


def ask(client, **fields):
    """The message, whole and put together from a stream; they are equal."""
    whole = client.messages.create(**{**ASK, **fields})
    with client.messages.stream(**{**ASK, **fields}) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_message()
    assert plain(streamed) == plain(whole)
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    return whole


def library(llm, messages, **params):
    params = llm.engine.generation_defaults.params(temperature=0, **params)
    return llm.chat(messages, params)[0]


def test_the_text_is_the_librarys(client, llm):
    message = ask(client, system="the mat", **GREEDY)
    expected = library(
        llm,
        [{"role": "system", "content": "the mat"}, {"role": "user", "content": "the cat"}],
        max_tokens=12,
    )
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "tiny")
    assert plain(message) == (
        [{"type": "text", "text": expected.outputs[0].text}],
        "max_tokens",
        None,
    )
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == len(expected.prompt_token_ids)
    assert usage.output_tokens == 12


def test_events_are_in_anthropics_order(server):
    body = {**ASK, "stream": True, "temperature": 0}
    text = server.http.post("/v1/messages", json=body).text
    events = [part.removeprefix("event: ").split("\n") for part in text.strip().split("\n\n")]
    names = [name for name, _ in events]
    deltas = [name for name in names if name == "content_block_delta"]
    assert names == [
        "message_start",
        "content_block_start",
        *deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert deltas
    assert all(f'"type": "{name}"' in data for name, data in events)


def test_a_stop_sequence(client, llm):
    text = library(llm, ASK["messages"], max_tokens=12).outputs[0].text
    stop = next(piece for piece in text[2:] if piece.isascii())
    message = ask(client, stop_sequences=[stop], **GREEDY)
    assert plain(message) == (
        [{"type": "text", "text": text[: text.index(stop)]}],
        "stop_sequence",
        stop,
    )


def test_calls_and_thinking(client, says):
    says(CALLS)
    assert plain(ask(client, tools=TOOLS)) == (BLOCKS, "tool_use", None)
    one = ask(client, tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert plain(one) == (BLOCKS[:3], "tool_use", None)


def test_thinking_may_be_left_out(client, says):
    says(CALLS)
    content, _, _ = plain(ask(client, tools=TOOLS, thinking={"type": "disabled"}))
    assert content == BLOCKS[1:]


def test_a_call_that_is_cut_short(client, says):
    says(CALLS[: CALLS.index("ln")], reason="length")
    content, reason, _ = plain(ask(client, tools=TOOLS))
    assert reason == "max_tokens"
    assert content[-1]["name"] == "weather"
    assert content[-1]["input"] in ({}, {"city": "Kö"})


@pytest.mark.parametrize(
    ("choice", "names"),
    [({"type": "any"}, ["weather", "time"]), ({"type": "tool", "name": "time"}, ["time"])],
    ids=["any", "one"],
)
def test_a_call_is_forced(client, says, choice, names):
    """The engine is held to a schema, and what it then writes is a call without any marker."""
    asked = says('{"name": "time", "arguments": {"city": "Rome"}}')
    content, reason, _ = plain(ask(client, tools=TOOLS, tool_choice=choice))
    assert content == [{"type": "tool_use", "name": "time", "input": {"city": "Rome"}}]
    assert reason == "tool_use"
    allowed = [params.structured_outputs.json["anyOf"] for params in asked]
    assert [[call["properties"]["name"]["const"] for call in calls] for calls in allowed] == [
        names,
        names,
    ]


TEMPLATE = (
    "{% for tool in tools %}{{ tool.function.name }} {% endfor %}"
    "{% for message in messages %}[{{ message.role }}]"
    "{{ message.reasoning_content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name }} {% endfor %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content or [] %}{{ part.text }}{% endfor %}{% endif %}"
    "{{ message.tool_call_id or '' }}{% endfor %}"
    "{{ enable_thinking }}{{ reasoning_effort }}"
)
HISTORY = [
    {"role": "user", "content": [{"type": "text", "text": "how?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {"type": "text", "text": "see"},
            {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {"city": "Rome"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "content": [{"type": "text", "text": "sun"}],
            },
            {"type": "text", "text": "and?"},
        ],
    },
]


def test_the_template_gets_tools_calls_results_and_thoughts(chat_model):
    """What it makes of them is counted, and is what is computed."""
    told = (
        "weather time [system]be brief[user]how?[assistant]Hm.time see[tool]noontoolu_1"
        "[tool]suntoolu_2[user]and?Truelow"
    )
    with (
        running(chat_model.folder, chat_template=TEMPLATE, tool_call_parser="hermes") as server,
        anthropic.Anthropic(base_url=server.url, api_key="none") as client,
    ):
        body = {
            "model": "tiny",
            "system": [{"type": "text", "text": "be brief"}],
            "messages": HISTORY,
            "tools": TOOLS,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
        }
        expected = server.post("/tokenize", prompt=told, add_special_tokens=False).json()
        count = client.messages.count_tokens(**body).input_tokens
        assert count == expected["count"]
        usage = client.messages.create(**body, max_tokens=1).usage
        assert usage.input_tokens + usage.cache_read_input_tokens == count


def test_the_assistants_last_turn_is_continued(client, llm):
    messages = [*ASK["messages"], {"role": "assistant", "content": "the dog sat"}]
    message = client.messages.create(**{**ASK, "messages": messages}, **GREEDY)
    prompt = "<|user|>the cat<|end|><|assistant|>the dog sat"
    ids = llm.engine.tokenizer.encode(prompt, add_special_tokens=False)
    params = llm.engine.generation_defaults.params(temperature=0, max_tokens=12)
    assert message.content[0].text == llm.generate(ids, params)[0].outputs[0].text


def test_an_answer_of_a_schema(client):
    schema = {"enum": ["left", "right"]}
    config = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(**ASK, **GREEDY, output_config=config)
    assert message.content[0].text in ('"left"', '"right"')


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be greater than or equal to 1, got 0"),
        (
            {"max_tokens": 1000},
            "this model's maximum context length is 160 tokens: the prompt has 5, and max_tokens "
            "is 1000; request at most 155",
        ),
        ({"messages": []}, "messages must be"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role must be 'user'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0 is of type 'image': this engine takes only text",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "tools.0 is refused: this server has no tools of its own",
        ),
        ({"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice needs tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name is missing"),
        ({"container": "c"}, "container is not supported: this server runs no code"),
        ({"stop_sequences": [""]}, "stop must be a non-empty string"),
    ],
)
def test_what_is_refused(server, fields, message):
    answer = server.http.post("/v1/messages", json={**ASK, **fields})
    assert answer.status_code == 400
    assert set(answer.json()) == {"type", "error"}
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(message)


def test_errors_are_the_clients_own(client, chat_model):
    with pytest.raises(anthropic.NotFoundError, match="'claude' is not served here"):
        client.messages.create(**{**ASK, "model": "claude"})
    with running(chat_model.folder, api_keys=["key"]) as server:
        for key, error in (("key", None), ("other", anthropic.AuthenticationError)):
            with anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0) as asking:
                if error is None:
                    assert asking.messages.create(**ASK).usage.output_tokens
                else:
                    with pytest.raises(error, match="this server requires an API key"):
                        asking.messages.create(**ASK)


def test_an_error_within_a_stream(client, monkeypatch):
    let_model_write(monkeypatch, "and so", size=2, error=RuntimeError("the device is gone"))
    with client.messages.stream(**ASK) as stream, pytest.raises(anthropic.APIStatusError) as caught:
        stream.until_done()
    assert caught.value.body["error"]["type"] == "api_error"
    assert "internal error" in caught.value.body["error"]["message"]


def test_a_client_that_leaves_cancels_its_request(client, server, monkeypatch):
    let_model_write(monkeypatch, "and so on, ", size=2, holds=True)
    with client.messages.stream(**ASK) as stream:
        next(iter(stream.text_stream))
    assert not any(server.settled().values())
