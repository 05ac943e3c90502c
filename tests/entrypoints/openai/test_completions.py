"""/v1/completions returns the library's results, in OpenAI's format."""

from __future__ import annotations

from typing import Literal

import pytest

from vllm import SamplingParams

PROMPT = "the cat and the dog"
GREEDY = {"temperature": 0, "ignore_eos": True}


def library(llm, prompt, **params):
    """What `LLM.generate` says."""
    return llm.generate(prompt, llm.engine.generation_defaults.params(**params))[0]


def test_the_text_is_the_librarys(client, llm):
    answer = client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=12, temperature=0, extra_body={"ignore_eos": True}
    )
    expected = library(llm, PROMPT, max_tokens=12, **GREEDY)
    (choice,) = answer.choices
    assert choice.text == expected.outputs[0].text
    assert choice.finish_reason == "length"
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == len(expected.prompt_token_ids) + 12


def test_a_stream_adds_up_to_the_answer(client, llm):
    stream = client.completions.create(
        model="tiny",
        prompt=PROMPT,
        max_tokens=30,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].text for chunk in chunks if chunk.choices]
    assert "".join(texts) == library(llm, PROMPT, max_tokens=30, **GREEDY).outputs[0].text
    assert chunks[-2].choices[0].finish_reason == "length"
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage.completion_tokens == 30
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_with_each_event_where_asked_for(events):
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = events("/v1/completions", prompt=PROMPT, max_tokens=9, stream_options=options, **GREEDY)
    counts = [event["usage"]["completion_tokens"] for event in found]
    assert counts == sorted(counts)
    assert counts[-1] == 9


def test_every_form_of_a_prompt(server, llm):
    ids = llm.engine.tokenizer.encode(PROMPT)
    alone = library(llm, PROMPT, max_tokens=6, **GREEDY).outputs[0].text
    other = library(llm, "the mat", max_tokens=6, **GREEDY).outputs[0].text
    other_ids = llm.engine.tokenizer.encode("the mat")
    for prompt, expected in (
        (PROMPT, [alone]),
        (ids, [alone]),
        ([PROMPT, "the mat"], [alone, other]),
        ([other_ids, ids], [other, alone]),
    ):
        answer = server.post("/v1/completions", prompt=prompt, max_tokens=6, **GREEDY).json()
        assert [choice["text"] for choice in answer["choices"]] == expected
        assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))


def test_special_tokens_may_be_left_out(server, llm):
    ids = llm.engine.tokenizer.encode(PROMPT, add_special_tokens=False)
    body = {"prompt": PROMPT, "add_special_tokens": False, "max_tokens": 6, **GREEDY}
    answer = server.post("/v1/completions", **body).json()
    assert answer["choices"][0]["text"] == library(llm, ids, max_tokens=6, **GREEDY).outputs[0].text
    assert answer["usage"]["prompt_tokens"] == len(ids)


def test_seeded_continuations_of_several_prompts(server, events, llm):
    body = {"prompt": [PROMPT, "a mat"], "n": 3, "seed": 11, "max_tokens": 8, "temperature": 0.9}
    expected = [
        output.text
        for prompt in body["prompt"]
        for output in library(llm, prompt, n=3, seed=11, max_tokens=8, temperature=0.9).outputs
    ]
    assert len(set(expected)) == 6
    answer = server.post("/v1/completions", **body).json()
    assert [choice["text"] for choice in answer["choices"]] == expected
    texts = [""] * 6
    for event in events("/v1/completions", **body):
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == expected


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 5, "seed": 1},
        {"top_p": 0.6, "seed": 2},
        {"min_p": 0.2, "seed": 3},
        {"repetition_penalty": 1.8, "temperature": 0},
        {"presence_penalty": 1.5, "temperature": 0},
        {"frequency_penalty": -1.5, "temperature": 0},
        {"min_tokens": 7, "stop": ["\n", "t"], "temperature": 0},
        {"stop": "t", "include_stop_str_in_output": True, "temperature": 0},
        {"stop_token_ids": list(range(40, 90)), "temperature": 0},
        {"logit_bias": {"9": 90.5, "10": 90}, "seed": 6},
        {"allowed_token_ids": [40, 50, 60], "seed": 7},
        {"bad_words": ["t", "a"], "seed": 8},
        {"structured_outputs": {"regex": "[a-z]{9}"}, "seed": 9},
        {"skip_special_tokens": False, "seed": 5, "top_k": 300},
    ],
    ids=lambda params: next(iter(params)),
)
def test_parameters_reach_the_sampler(server, llm, params):
    expected = library(llm, PROMPT, max_tokens=25, ignore_eos=True, **params).outputs[0]
    body = {"prompt": PROMPT, "max_tokens": 25, "ignore_eos": True, **params}
    (choice,) = server.post("/v1/completions", **body).json()["choices"]
    assert choice["text"] == expected.text
    assert choice["finish_reason"] == expected.finish_reason
    assert choice["stop_reason"] == expected.stop_reason


def test_logprobs_and_echo(server, events, llm):
    body = {"prompt": PROMPT, "max_tokens": 6, "logprobs": 3, "echo": True, **GREEDY}
    expected = library(llm, PROMPT, max_tokens=6, logprobs=3, prompt_logprobs=3, **GREEDY)
    (choice,) = server.post("/v1/completions", **body).json()["choices"]
    found = choice["logprobs"]
    ids = expected.prompt_token_ids + expected.outputs[0].token_ids
    entries = expected.prompt_logprobs + expected.outputs[0].logprobs
    tokenizer = llm.engine.tokenizer
    assert choice["text"] == PROMPT + expected.outputs[0].text
    assert found["tokens"] == [tokenizer.token_text(token) for token in ids]
    assert found["token_logprobs"] == [
        None if entry is None else pytest.approx(entry[token].logprob)
        for token, entry in zip(ids, entries)
    ]
    assert found["top_logprobs"][0] is None
    for best, entry in zip(found["top_logprobs"][1:], entries[1:]):
        by_text = {each.decoded_token: pytest.approx(each.logprob) for each in entry.values()}
        assert best == by_text
    lengths = [len(token) for token in found["tokens"]]
    assert found["text_offset"] == [sum(lengths[:place]) for place in range(len(lengths))]

    streamed = events("/v1/completions", **body)
    for name in ("tokens", "text_offset", "token_logprobs"):
        parts = [event["choices"][0]["logprobs"][name] for event in streamed]
        again = [item for part in parts for item in part]
        if name == "token_logprobs":
            again = [None, *(pytest.approx(value, abs=1e-4) for value in again[1:])]
        assert again == found[name]
    assert "".join(event["choices"][0]["text"] for event in streamed) == choice["text"]


def test_tokens_as_ids(server):
    body = {"prompt": [5, 6], "max_tokens": 2, "logprobs": 1, "echo": True, **GREEDY}
    answer = server.post("/v1/completions", return_tokens_as_token_ids=True, **body).json()
    tokens = answer["choices"][0]["logprobs"]["tokens"]
    assert tokens[:2] == ["token_id:5", "token_id:6"]
    assert all(token.startswith("token_id:") for token in tokens)


def test_echo_alone_computes_no_text(server, llm):
    """What harnesses ask for to score a text."""
    body = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = server.post("/v1/completions", **body).json()
    (choice,) = answer["choices"]
    num_prompt = len(llm.engine.tokenizer.encode(PROMPT))
    assert choice["text"] == PROMPT
    assert len(choice["logprobs"]["tokens"]) == num_prompt
    assert answer["usage"]["completion_tokens"] == 0


def test_prompt_logprobs_in_vllms_shape(server, llm):
    body = {"prompt": PROMPT, "max_tokens": 1, "prompt_logprobs": 2}
    (choice,) = server.post("/v1/completions", **body).json()["choices"]
    expected = library(llm, PROMPT, max_tokens=1, prompt_logprobs=2).prompt_logprobs
    assert choice["prompt_logprobs"][0] is None
    for found, entry in zip(choice["prompt_logprobs"][1:], expected[1:]):
        assert found == {
            str(token): {
                "logprob": pytest.approx(each.logprob),
                "rank": each.rank,
                "decoded_token": each.decoded_token,
            }
            for token, each in entry.items()
        }


def test_a_long_prompt_is_cut_where_asked_for(server, llm):
    long = [7] * 200 + llm.engine.tokenizer.encode(PROMPT)
    for truncate, kept in ((1, 1), (9, 9), (159, 159), (-1, 159)):
        body = {"prompt": long, "max_tokens": 1, "truncate_prompt_tokens": truncate, "echo": True}
        answer = server.post("/v1/completions", **body).json()
        assert answer["usage"]["prompt_tokens"] == kept
        text = llm.engine.tokenizer.decode(long[-kept:])
        assert answer["choices"][0]["text"].startswith(text)


def test_cached_tokens_are_told(server):
    prompt = list(range(100, 148))
    body = {"prompt": prompt, "max_tokens": 1}
    first = server.post("/v1/completions", **body).json()["usage"]
    again = server.post("/v1/completions", **body).json()["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert again["prompt_tokens_details"]["cached_tokens"] == 32  # the last block is computed


def test_as_many_tokens_as_asked_for_by_default(server):
    answer = server.post("/v1/completions", prompt=PROMPT, **GREEDY).json()
    assert answer["usage"]["completion_tokens"] == 16
    assert SamplingParams().max_tokens == 16


def test_the_clients_request_id_is_in_the_answers(server):
    body = {"prompt": PROMPT, "max_tokens": 1}
    assert server.post("/v1/completions", request_id="mine", **body).json()["id"] == "cmpl-mine"
    headers = {"X-Request-Id": "theirs"}
    answer = server.http.post("/v1/completions", json=body, headers=headers).json()
    assert answer["id"] == "cmpl-theirs"


def test_openais_response_formats(client):
    """The client's own model of an answer, filled by a model that knows no better."""
    from pydantic import BaseModel, ConfigDict

    class Point(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x: bool
        name: Literal["left", "right"]

    answer = client.chat.completions.parse(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        response_format=Point,
        max_tokens=100,
        seed=1,
        extra_body={"bad_words": [" ", "\n", "\r", "\t"]},  # of which it would be fond
    )
    assert answer.choices[0].message.parsed.name in ("left", "right")
    plain = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        response_format={"type": "json_object"},
        max_tokens=4,
    )
    assert plain.choices[0].message.content.startswith("{")


def test_the_prefix_cache_is_shared_by_those_of_one_salt(server):
    def cached(**more):
        body = {"prompt": list(range(280, 200, -2)), "max_tokens": 1, **more}
        usage = server.post("/v1/completions", **body).json()["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert cached(cache_salt="one") == 0
    assert cached(cache_salt="one") == 32
    assert cached(cache_salt="two") == 0
    assert cached() == 0
    assert cached() == 32
    error = server.post("/v1/completions", prompt="hi", cache_salt="").json()["error"]
    assert error["param"] == "cache_salt"
