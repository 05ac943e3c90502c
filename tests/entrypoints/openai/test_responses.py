"""/v1/responses with OpenAI's own client: the library's results, and stored responses."""

from __future__ import annotations

from functools import partial

import openai
import pytest

from tests.entrypoints.openai.support import let_model_write, running
from tests.waiting import until

ASK = {"model": "tiny", "input": "the cat", "max_output_tokens": 12, "temperature": 0}
CALLS = (
    "<think>First, the weather.</think>I shall ask."
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
)
TOOLS = [
    {"type": "function", "name": name, "strict": False, "parameters": {"type": "object"}}
    for name in ("weather", "time")
]


@pytest.fixture(scope="module")
def server(chat_model):
    with running(chat_model.folder, tool_call_parser="hermes", reasoning_parser="qwen3") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(params=[1, 7, 1000])
def says(request, monkeypatch):
    """says(text): what the model writes, in pieces of one size."""
    return partial(let_model_write, monkeypatch, size=request.param)


def plain(response):
    """What a response says, without its ids; each item has one of its own."""
    items = [item.model_dump(exclude_none=True) for item in response.output]
    ids = [item.pop("id") for item in items]
    calls = [item.pop("call_id") for item in items if item["type"] == "function_call"]
    assert len({*ids, *calls}) == len(ids) + len(calls)
    return items, response.status, response.incomplete_details


def ask(client, **fields):
    """The response, whole and at the end of a stream, which must add up to it; they are equal."""
    whole = client.responses.create(**{**ASK, **fields})
    with client.responses.stream(**{**ASK, **fields}) as stream:
        events = list(stream)
    streamed = events[-1].response
    assert plain(streamed) == plain(whole)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == f"response.{whole.status}"
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    assert added == [item.id for item in streamed.output]
    for item in streamed.output:
        pieces = [
            event.delta
            for event in events
            if event.type.endswith(".delta") and event.item_id == item.id
        ]
        is_call = item.type == "function_call"
        assert "".join(pieces) == (item.arguments if is_call else item.content[0].text)
    return whole


def text(llm, *turns, system=None, tokens=12):
    params = llm.engine.generation_defaults.params(temperature=0, max_tokens=tokens)
    messages = [] if system is None else [{"role": "system", "content": system}]
    for at, turn in enumerate(turns):
        messages.append({"role": ("user", "assistant")[at % 2], "content": turn})
    return llm.chat(messages, params)[0].outputs[0].text


def test_the_text_is_the_librarys(client, llm):
    response = ask(client, instructions="the mat", metadata={"a": "b"})
    assert response.output_text == text(llm, "the cat", system="the mat")
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"
    assert response.usage.output_tokens == 12
    assert response.usage.total_tokens == response.usage.input_tokens + 12
    assert (response.instructions, response.metadata) == ("the mat", {"a": "b"})


def test_a_conversation_goes_on(client, llm):
    """Without the earlier instructions, as OpenAI has it."""
    first = client.responses.create(**ASK, instructions="the mat")
    second = client.responses.create(
        **{**ASK, "input": "the dog"}, previous_response_id=first.id, store=False
    )
    assert second.output_text == text(llm, "the cat", first.output_text, "the dog")
    assert client.responses.retrieve(first.id) == first
    for missing in (second.id, "resp_gone"):
        with pytest.raises(openai.NotFoundError, match="there is no response"):
            client.responses.retrieve(missing)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(**ASK, previous_response_id=second.id)
    assert caught.value.param == "previous_response_id"


def test_a_streamed_response_is_stored_too(client):
    with client.responses.stream(**ASK) as stream:
        streamed = list(stream)[-1].response
    found = client.responses.retrieve(streamed.id)
    assert found.output_text == streamed.output_text
    client.responses.delete(found.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(found.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(found.id)


def test_calls_and_reasoning(client, says):
    says(CALLS)
    response = ask(client, tools=TOOLS)
    items, status, details = plain(response)
    assert (status, details) == ("completed", None)
    assert [item["type"] for item in items] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert items[0]["content"] == [{"text": "First, the weather.", "type": "reasoning_text"}]
    assert items[1]["content"][0]["text"] == "I shall ask."
    assert [(item["name"], item["arguments"]) for item in items[2:]] == [
        ("weather", '{"city": "Köln"}'),
        ("time", "{}"),
    ]
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert len(plain(ask(client, tools=TOOLS, parallel_tool_calls=False))[0]) == 3


TEMPLATE = (
    "{% for tool in tools %}{{ tool.function.name }} {% endfor %}"
    "{% for message in messages %}[{{ message.role }}]"
    "{{ message.reasoning_content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name }} {% endfor %}"
    "{{ message.content }}{{ message.tool_call_id or '' }}{% endfor %}{{ reasoning_effort }}"
)


def test_the_template_gets_what_was_said_called_and_thought(chat_model, monkeypatch):
    """Sent again by the client, or remembered by the server."""
    output = {"type": "function_call_output", "output": "noon"}
    options = {
        "chat_template": TEMPLATE,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
    }
    with running(chat_model.folder, **options) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            with monkeypatch.context() as patch:
                let_model_write(patch, CALLS.partition('\n<tool_call>\n{"name": "time')[0])
                first = client.responses.create(**ASK, tools=TOOLS)
            output["call_id"] = call_id = first.output[-1].call_id
            more = {"tools": TOOLS, "reasoning": {"effort": "low"}}
            kept = client.responses.create(
                **{**ASK, "input": [output]}, **more, previous_response_id=first.id
            )
            items = [item.model_dump(exclude_none=True) for item in first.output]
            begun = {"role": "user", "content": [{"type": "input_text", "text": "the cat"}]}
            again = client.responses.create(**{**ASK, "input": [begun, *items, output]}, **more)
        told = (
            "weather time [user]the cat[assistant]First, the weather.weather I shall ask."
            f"[tool]noon{call_id}low"
        )
        count = server.post("/tokenize", prompt=told, add_special_tokens=False).json()["count"]
    assert kept.usage.input_tokens == again.usage.input_tokens == count
    assert kept.output_text == again.output_text


def until_ended(client, id):
    found = client.responses.retrieve
    until(lambda: found(id).status != "in_progress", "it has not ended")
    return found(id)


def test_in_the_background(client, server, llm):
    begun = client.responses.create(**ASK, background=True)
    assert (begun.status, begun.output, begun.background) == ("in_progress", [], True)
    ended = until_ended(client, begun.id)
    assert ended.output_text == text(llm, "the cat")
    assert client.responses.cancel(begun.id) == ended
    assert not any(server.settled().values())


def test_one_in_the_background_is_cancelled(client, server, monkeypatch):
    let_model_write(monkeypatch, "and so on, ", holds=True)
    begun = client.responses.create(**ASK, background=True)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        client.responses.create(**ASK, previous_response_id=begun.id)
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert client.responses.retrieve(begun.id).status == "cancelled"
    assert not any(server.settled().values())
    again = client.responses.create(**ASK, background=True)
    client.responses.delete(again.id)
    assert not any(server.settled().values())
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(again.id)


def test_only_those_in_the_background_are_cancelled(client):
    with pytest.raises(openai.BadRequestError, match="only a background response"):
        client.responses.cancel(client.responses.create(**ASK).id)


def test_failures(client, monkeypatch):
    let_model_write(monkeypatch, "and so", size=2, error=RuntimeError("the device is gone"))
    failed = until_ended(client, client.responses.create(**ASK, background=True).id)
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert "internal error" in failed.error.message
    with pytest.raises(openai.InternalServerError):
        client.responses.create(**ASK)
    *_, last = client.responses.create(**ASK, stream=True)
    assert last.type == "response.failed"
    assert "internal error" in last.response.error.message


def test_a_client_that_leaves_cancels_its_response(client, server, monkeypatch):
    let_model_write(monkeypatch, "and so on, ", holds=True)
    with client.responses.create(**ASK, stream=True) as stream:
        next(iter(stream))
    assert not any(server.settled().values())


def test_a_key_finds_its_own_responses_alone(chat_model):
    options = {"api_keys": ["mine", "yours"], "max_stored_responses": 1}
    with running(chat_model.folder, **options) as server:
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key="mine", max_retries=0) as mine:
            first = mine.responses.create(**ASK)
            with openai.OpenAI(base_url=url, api_key="yours", max_retries=0) as yours:
                for ask_for in (yours.responses.retrieve, yours.responses.delete):
                    with pytest.raises(openai.NotFoundError):
                        ask_for(first.id)
            assert mine.responses.retrieve(first.id).id == first.id
            mine.responses.create(**ASK)
            with pytest.raises(openai.NotFoundError, match="or was deleted since"):
                mine.responses.retrieve(first.id)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": []}, "input must"),
        ({"input": [{"content": "a"}]}, "input.0.role is missing"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0 is of type 'input_image': this engine takes only text",
        ),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input.0 is of type 'item_reference'"),
        (
            {"tools": [{"type": "web_search"}]},
            "tools.0 is of type 'web_search': this server has no",
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.name is missing"),
        ({"background": True, "stream": True}, "stream must be false where"),
        ({"background": True, "store": False}, "store must be true where"),
        ({"conversation": "c"}, "conversation is not supported: use previous_response_id"),
        ({"include": ["message.output_text.logprobs"]}, "include: log-probabilities are in"),
        ({"text": {"verbosity": "low"}}, "text.verbosity must be 'medium', got"),
        ({"text": {"format": {"type": "json_schema"}}}, "response_format must have a json_schema"),
    ],
)
def test_what_is_refused(server, fields, message):
    answer = server.http.post("/v1/responses", json={**ASK, **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def test_a_text_of_a_schema(client):
    form = {"type": "json_schema", "name": "side", "schema": {"enum": ["left", "right"]}}
    response = client.responses.create(**ASK, text={"format": form})
    assert response.output_text in ('"left"', '"right"')
