"""/v1/chat/completions returns the results of `LLM.chat`, in OpenAI's format."""

from __future__ import annotations

import pytest

MESSAGES = [
    {"role": "system", "content": "the mat"},
    {"role": "user", "content": "the cat"},
]
GREEDY = {"temperature": 0, "ignore_eos": True}


def library(llm, messages=MESSAGES, *, template=None, prompt=None, **params):
    params = llm.engine.generation_defaults.params(**params)
    if prompt is not None:
        return llm.generate(prompt, params)[0]
    return llm.chat(messages, params, **(template or {}))[0]


def test_the_text_is_the_librarys(client, llm):
    answer = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_completion_tokens=12,
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    expected = library(llm, max_tokens=12, **GREEDY)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == expected.outputs[0].text
    assert choice.finish_reason == "length"
    assert answer.object == "chat.completion"
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert answer.usage.completion_tokens == 12


def test_a_stream_adds_up_to_the_answer(client, llm):
    stream = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=30,
        n=2,
        seed=4,
        temperature=0.8,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts, roles, reasons = ["", ""], [[], []], [[], []]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            roles[choice.index] += [choice.delta.role] if choice.delta.role else []
            reasons[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    expected = library(llm, max_tokens=30, n=2, seed=4, temperature=0.8)
    assert texts == [output.text for output in expected.outputs]
    assert roles == [["assistant"], ["assistant"]]
    assert reasons == [[output.finish_reason] for output in expected.outputs]
    assert chunks[-1].usage.completion_tokens == sum(len(o.token_ids) for o in expected.outputs)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_as_many_tokens_as_fit_by_default(server):
    answer = server.post("/v1/chat/completions", messages=MESSAGES, **GREEDY).json()
    assert answer["usage"]["total_tokens"] == 160


def test_logprobs(server, events, llm):
    body = {"messages": MESSAGES, "max_tokens": 8, "logprobs": True, "top_logprobs": 3, **GREEDY}
    (choice,) = server.post("/v1/chat/completions", **body).json()["choices"]
    expected = library(llm, max_tokens=8, logprobs=3, **GREEDY).outputs[0]
    found = choice["logprobs"]["content"]
    assert len(found) == 8
    for entry, token, logprobs in zip(found, expected.token_ids, expected.logprobs):
        own = logprobs[token]
        assert entry["token"] == own.decoded_token
        assert entry["logprob"] == pytest.approx(own.logprob)
        assert entry["bytes"] == list(llm.engine.tokenizer.token_bytes[token])
        ranked = sorted(logprobs.values(), key=lambda each: each.rank)[:3]
        assert [best["token"] for best in entry["top_logprobs"]] == [
            each.decoded_token for each in ranked
        ]
    streamed = events("/v1/chat/completions", **body)
    parts = [event["choices"][0]["logprobs"] for event in streamed]
    again = [entry for part in parts if part for entry in part["content"]]
    for entry, other in zip(again, found):
        assert entry["token"] == other["token"]
        assert entry["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
    assert len(again) == len(found)


def test_bytes_of_tokens_are_the_text_where_a_character_has_several(server):
    text = "é 🤷🏽‍♀️"
    only = {"structured_outputs": {"choice": [text]}, "max_tokens": 40}
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 1, **only}
    (choice,) = server.post("/v1/chat/completions", **body).json()["choices"]
    tokens = choice["logprobs"]["content"]
    assert any("\ufffd" in each["token"] for each in tokens)
    assert choice["message"]["content"] == text
    assert bytes(b for each in tokens for b in each["bytes"]).decode() == text


def test_logprobs_of_the_drawn_token_alone(server):
    body = {"messages": MESSAGES, "max_tokens": 2, "logprobs": True}
    (choice,) = server.post("/v1/chat/completions", **body).json()["choices"]
    assert [entry["top_logprobs"] for entry in choice["logprobs"]["content"]] == [[], []]


def test_content_parts_and_the_developers_role(server, llm):
    messages = [
        {"role": "developer", "content": "the mat"},
        {"role": "user", "content": ["the cat"]},
    ]
    answer = server.post("/v1/chat/completions", messages=messages, max_tokens=5, **GREEDY).json()
    expected = library(llm, max_tokens=5, **GREEDY).outputs[0].text
    assert answer["choices"][0]["message"]["content"] == expected


def test_the_last_message_is_continued(server, llm):
    messages = [*MESSAGES, {"role": "assistant", "content": "the dog sat"}]
    body = {"add_generation_prompt": False, "max_tokens": 6, **GREEDY}
    prompt = "<|system|>the mat<|end|><|user|>the cat<|end|><|assistant|>the dog sat"
    ids = llm.engine.tokenizer.encode(prompt, add_special_tokens=False)
    expected = library(llm, prompt=ids, max_tokens=6, **GREEDY).outputs[0].text
    path = "/v1/chat/completions"
    answer = server.post(path, messages=messages, continue_final_message=True, **body).json()
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": expected,
        "refusal": None,
    }
    echoed = server.post(
        path, messages=messages, continue_final_message=True, echo=True, **body
    ).json()
    assert echoed["choices"][0]["message"]["content"] == "the dog sat" + expected


def test_the_template_gets_what_the_request_says(chat_model, llm):
    """In a server that takes templates: one of a request, and one of its own."""
    from tests.entrypoints.openai.support import running

    own, theirs = "{{ mood }} {{ messages[0].content }}", "{{ messages[1].content }} {{ mood }}"
    body = {"messages": MESSAGES, "max_tokens": 3, "chat_template_kwargs": {"mood": "sat"}}
    options = {"chat_template": own, "trust_request_chat_template": True}
    with running(chat_model.folder, **options) as server:
        for template, prompt in ((None, "sat the mat"), (theirs, "the cat sat")):
            ids = llm.engine.tokenizer.encode(prompt, add_special_tokens=False)
            answer = server.post(
                "/v1/chat/completions", **body, **GREEDY, chat_template=template
            ).json()
            expected = library(llm, prompt=ids, max_tokens=3, **GREEDY).outputs[0].text
            assert answer["choices"][0]["message"]["content"] == expected
