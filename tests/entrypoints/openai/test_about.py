"""/v1/models, /health, /version, /metrics, /tokenize, /detokenize."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

import vllm
from tests.entrypoints.openai.support import running


def test_models(chat_model):
    with running(chat_model.folder, names=["tiny", "other"]) as server:
        listed = server.http.get("/v1/models").json()
        assert [card["id"] for card in listed["data"]] == ["tiny", "other"]
        one = server.http.get("/v1/models/other").json()
        assert one == listed["data"][1]
        assert one["max_model_len"] == 160
        assert one["root"] == str(chat_model.folder)
        assert server.http.get("/v1/models/third").status_code == 404
        body = {"prompt": "hi", "max_tokens": 1}
        for nothing in ({}, {"model": None}, {"model": ""}):
            assert server.post("/v1/completions", **body, **nothing).json()["model"] == "tiny"
        assert server.post("/v1/completions", model="other", **body).json()["model"] == "other"


def test_models_by_the_client(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "vllm"


def test_health_and_version(server):
    health = server.http.get("/health")
    assert (health.status_code, health.content) == (200, b"")
    assert server.http.get("/version").json() == {"version": vllm.__version__}


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", "/", "/openapi.json"])
def test_head_is_answered_as_get_without_a_body(server, path):
    head, got = server.http.head(path), server.http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers.get("content-type") == got.headers.get("content-type")
    assert server.http.head("/v1/completions").status_code == 405
    assert server.http.get("/health").status_code == 200  # by the same connection


def test_tokenize_and_back(server, llm):
    tokenizer = llm.engine.tokenizer
    told = server.post("/tokenize", prompt="the cat", return_token_strs=True).json()
    assert told == {
        "count": 3,
        "max_model_len": 160,
        "tokens": tokenizer.encode("the cat"),
        "token_strs": ["<s>", "the", " cat"],
    }
    plain = server.post("/tokenize", prompt="the cat", add_special_tokens=False).json()
    assert plain["tokens"] == tokenizer.encode("the cat", add_special_tokens=False)
    assert "token_strs" not in plain
    text = server.post("/detokenize", tokens=told["tokens"]).json()
    assert text == {"prompt": "<s>the cat"}


def test_tokenize_a_conversation(server, llm):
    messages = [{"role": "user", "content": "the cat"}]
    ids = llm.chat_prompt(messages)["prompt_token_ids"]
    assert server.post("/tokenize", messages=messages).json()["tokens"] == ids
    longer = server.post("/tokenize", messages=messages, add_special_tokens=True).json()
    assert longer["tokens"] == [llm.engine.tokenizer.encode("")[0], *ids]


def samples(server):
    """{name: value} of what is no histogram's bucket."""
    found = {}
    text = server.http.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["model_name"] == "tiny"
            if not sample.name.endswith(("_bucket", "_created")):
                key = sample.labels.get("finished_reason", "")
                found[sample.name.removeprefix("vllm:") + key] = sample.value
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_metrics_under_vllms_names(server, stream):
    before = samples(server)
    body = {"prompt": list(range(20)), "max_tokens": 9, "n": 2, "ignore_eos": True}
    assert server.post("/v1/completions", stream=stream, **body).status_code == 200
    assert not any(server.settled().values())
    after = samples(server)
    gained = {name: after[name] - before.get(name, 0) for name in after}
    expected = {
        "prompt_tokens_total": 20,
        "generation_tokens_total": 18,
        "prefix_cache_queries_total": 40,
        "request_success_totallength": 2,
        "time_to_first_token_seconds_count": 1,
        "e2e_request_latency_seconds_count": 1,
        "request_queue_time_seconds_count": 1,
        "request_prompt_tokens_sum": 20,
        "request_generation_tokens_sum": 18,
        "num_requests_running": 0,
        "num_requests_waiting": 0,
        "kv_cache_usage_perc": 0,
    }
    assert {name: gained[name] for name in expected} == expected
    assert gained["prefix_cache_hits_total"] >= 16  # the second continuation finds the first's
    gaps = gained["inter_token_latency_seconds_count"]
    assert 8 <= gaps <= 17
