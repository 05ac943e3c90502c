"""API keys, CORS, limits of requests, and their log."""

from __future__ import annotations

import logging

import openai
import pytest

from tests.entrypoints.openai.support import running

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def guarded(chat_model):
    with running(chat_model.folder, api_keys=["first-key", "second-kéy"]) as server:
        yield server


@pytest.mark.parametrize("key", ["first-key", "second-kéy"])
def test_a_key_opens_everything(guarded, key):
    headers = {"Authorization": f"Bearer {key}".encode()}
    for path in ("/v1/models", "/version", "/metrics", "/openapi.json", "/health"):
        assert guarded.http.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer first-ke", "Bearer first-key2", "Basic first-key"],
)
def test_without_a_key_there_are_health_and_the_page_alone(guarded, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/health", "/", "/page.css", "/page.js"):
        assert guarded.http.get(path, headers=headers).status_code == 200
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/version"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/health/"),
        ("GET", "/v1/health"),
        ("POST", "/tokenize"),
        ("POST", "/v1/chat/completions"),
        ("OPTIONS", "/v1/chat/completions"),
    ):
        response = guarded.http.request(method, path, headers=headers)
        assert response.status_code == 401, path
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"


def test_the_clients_key(guarded):
    for key, expected in (("first-key", None), ("wrong", openai.AuthenticationError)):
        with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as client:
            if expected is None:
                assert client.models.list().data
            else:
                with pytest.raises(expected):
                    client.models.list()


def test_no_page_may_ask_unless_allowed(server, chat_model):
    origin = {"Origin": "https://page.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.http.get("/health", headers=origin).headers
    assert server.http.options("/v1/completions", headers=preflight).status_code == 405
    options = {"allowed_origins": ["https://page.example"], "api_keys": ["key"]}
    with running(chat_model.folder, **options) as open_server:
        answer = open_server.http.options("/v1/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        other = {**preflight, "Origin": "https://other.example"}
        assert open_server.http.options("/v1/completions", headers=other).status_code == 400


def chunked(size):
    for _ in range(size // 1000):
        yield b"x" * 1000


def test_bodies_have_a_limit(chat_model):
    with running(chat_model.folder, max_request_bytes=5000) as server:
        fits = {"prompt": "hi", "max_tokens": 1, "user": "x" * 4900}
        assert server.post("/v1/completions", **fits).status_code == 200
        for content in (b"x" * 5001, chunked(6000)):
            response = server.http.post(
                "/v1/completions", content=content, headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 413
            message = response.json()["error"]["message"]
            assert message == "the body is larger than 5,000 bytes (--max-request-bytes)"


def test_a_request_id_comes_back(chat_model):
    with running(chat_model.folder, enable_request_id_headers=True) as server:
        answer = server.http.get("/health", headers={"X-Request-Id": "abc"})
        assert answer.headers["x-request-id"] == "abc"
        assert len(server.http.get("/health").headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("options", "shown"),
    [({}, None), ({"log_requests": True}, "the secret cat"), ({"max_log_len": 9}, None)],
)
def test_prompts_are_logged_where_asked_for_only(chat_model, caplog, options, shown):
    with running(chat_model.folder, **options) as server, caplog.at_level(logging.DEBUG, "vllm"):
        assert server.post("/v1/completions", prompt="the secret cat").status_code == 200
        assert server.post("/v1/completions", prompt=["the secret cat", 5]).status_code == 400
    assert ("secret" in caplog.text) == (shown is not None)


def test_advice_on_sampling_may_be_left_out(tmp_path, chat_model, llm):
    import json
    import shutil

    folder = tmp_path / "advised"
    shutil.copytree(chat_model.folder, folder)
    advice = {"do_sample": False, "eos_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(advice))
    body = {"prompt": "the cat", "max_tokens": 8, "seed": 1, "ignore_eos": True}
    texts = {}
    for choice in ("auto", "vllm"):
        with running(folder, generation_config=choice) as server:
            texts[choice] = server.post("/v1/completions", **body).json()["choices"][0]["text"]
    params = {"max_tokens": 8, "ignore_eos": True}
    from vllm import SamplingParams

    greedy = llm.generate("the cat", SamplingParams(temperature=0, **params))[0]
    drawn = llm.generate("the cat", SamplingParams(temperature=1, seed=1, **params))[0]
    assert texts == {"auto": greedy.outputs[0].text, "vllm": drawn.outputs[0].text}
