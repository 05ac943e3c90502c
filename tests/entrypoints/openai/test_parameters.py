"""Real clients send every parameter of every endpoint, and get an answer."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.entrypoints.openai.parameters import CASES, CLIENTS, ENDPOINTS, FIRST
from tests.entrypoints.openai.support import running
from tests.waiting import PATIENCE

BOTH = [(path, client) for path, clients in CLIENTS.items() for client in clients]


class Recorder:
    """Around an application: the bodies of its requests, and the statuses of its responses."""

    def __init__(self, app):
        self.app = app
        self.bodies = []
        self.statuses = []

    async def __call__(self, scope, receive, send):
        parts = []

        async def received():
            message = await receive()
            parts.append(message.get("body", b""))
            if message["type"] == "http.request" and not message["more_body"]:
                self.bodies.append((scope["path"], json.loads(b"".join(parts))))
            return message

        async def sent(message):
            if "status" in message:
                self.statuses.append(message["status"])
            await send(message)

        await self.app(scope, received, sent)


@pytest.fixture(scope="module")
def recorders():
    return []


@pytest.fixture(scope="module")
def server(chat_model, recorders):
    def around(app):
        recorders.append(Recorder(app))
        return recorders[0]

    options = {"tool_call_parser": "hermes", "trust_request_chat_template": True}
    with running(chat_model.folder, around=around, **options) as server:
        yield server


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_requests_have_every_parameter(path):
    assert {name for case in CASES[path] for name in case} == set(ENDPOINTS[path].model_fields)


@pytest.mark.parametrize(("path", "client"), BOTH)
def test_a_client_sends_every_parameter(path, client, server, recorders, request):
    pytest.importorskip("llguidance", reason="some requests have a format")
    (recorder,) = recorders
    del recorder.bodies[:], recorder.statuses[:]
    SEND[client](server.url, path, json.loads(json.dumps(CASES[path])), request)
    assert recorder.statuses == [200] * len(CASES[path])
    for (where, body), case in zip(recorder.bodies, CASES[path]):
        assert where == path
        assert {**body, **given_id(case, body)} == case  # the client has left nothing out


def given_id(case, body):
    """The placeholder, if the body has an id in its place."""
    assert body.get("previous_response_id") != FIRST
    return {name: FIRST for name, value in case.items() if value == FIRST}


def send_by_python(module, url, path, cases):
    """By the client's own methods: what they don't know goes into `extra_body`."""
    options = {"api_key": "none", "max_retries": 0, "timeout": PATIENCE}
    first = None
    with module(base_url=url, **options) as client:
        create = {
            "/v1/completions": lambda: client.completions.create,
            "/v1/chat/completions": lambda: client.chat.completions.create,
            "/v1/responses": lambda: client.responses.create,
            "/v1/messages": lambda: client.messages.create,
        }[path]()
        known = inspect.signature(create).parameters
        for case in cases:
            if case.get("previous_response_id") == FIRST:
                case["previous_response_id"] = first
            extra = {name: case.pop(name) for name in list(case) if name not in known}
            answer = create(**case, extra_body=extra)
            if case.get("stream"):
                assert list(answer)
            first = first or getattr(answer, "id", None)


def send_by_openai(url, path, cases, _):
    import openai

    send_by_python(openai.OpenAI, f"{url}/v1", path, cases)


def send_by_anthropic(url, path, cases, _):
    import anthropic

    send_by_python(anthropic.Anthropic, url, path, cases)


def send_by_node(url, path, cases, request):
    script = str(Path(__file__).with_name("send.mjs"))
    package = request.getfixturevalue("node_package")
    command = ["node", script, str(package), f"{url}/v1", path, FIRST]
    given = json.dumps(cases)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def send_by_curl(url, path, cases, _):
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    first = None
    for case in cases:
        if case.get("previous_response_id") == FIRST:
            case["previous_response_id"] = first
        command = ["curl", "-sS", "-H", "Content-Type: application/json", "-d", "@-", url + path]
        done = subprocess.run(
            command,
            input=json.dumps(case),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        if not case.get("stream"):
            first = first or json.loads(done.stdout).get("id")


SEND = {"P": send_by_openai, "N": send_by_node, "A": send_by_anthropic, "c": send_by_curl}
