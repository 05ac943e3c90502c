"""What the first requests of a server need is made before it is ready."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from pydantic import TypeAdapter

from tests.entrypoints.openai.support import running
from vllm.entrypoints.openai.warm_up import warm_up
from vllm.text import chat_template
from vllm.text.template_sandbox import SANDBOX

REQUESTS = {
    "/v1/completions": {"prompt": "the cat", "max_tokens": 1},
    "/v1/chat/completions": {
        "messages": [
            {"role": "system", "content": "the mat"},
            {"role": "user", "content": "the cat"},
        ],
        "max_tokens": 1,
    },
}


@contextlib.contextmanager
def warmed(folder, **options):
    """A server after `warm_up`."""
    made = []
    with running(folder, around=lambda app: made.append(app) or app, **options) as server:
        asyncio.run_coroutine_threadsafe(warm_up(made[0]), server.loop).result(60)
        yield server


@pytest.fixture
def warm(chat_model):
    chat_template._forms.cache_clear()  # as in a process that has served nothing
    with warmed(chat_model.folder, api_keys=["key"]) as server:
        server.http.headers["Authorization"] = "Bearer key"
        yield server


def test_the_first_requests_make_no_routes_and_render_no_probes(warm, monkeypatch):
    made, rendered = [], []
    create, render = TypeAdapter.__init__, SANDBOX.render

    def counted(self, *args, **kwargs):
        made.append(args)
        create(self, *args, **kwargs)

    def rendering(*args):
        rendered.append(args)
        return render(*args)

    monkeypatch.setattr(TypeAdapter, "__init__", counted)
    monkeypatch.setattr(SANDBOX, "render", rendering)
    for path, body in REQUESTS.items():
        assert warm.post(path, **body).status_code == 200
    assert made == []
    assert len(rendered) == 1


def test_it_leaves_nothing_in_the_engine_nor_in_the_log(warm, caplog):
    assert warm.settled()["requests"] == 0
    assert warm.served.admission.num_sequences == 0
    assert caplog.records == []


def test_a_server_without_a_tokenizer(chat_model):
    with warmed(chat_model.folder, engine={"skip_tokenizer_init": True}) as server:
        assert server.post("/v1/completions", prompt=[5], max_tokens=1).status_code == 200
