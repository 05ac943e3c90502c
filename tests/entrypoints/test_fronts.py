"""``vllm serve --api-server-count N``: several processes handle HTTP, and serve as one does."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.entrypoints.test_serve import (
    SMALL,
    children_of,
    completion,
    engines_of,
    needs_torch,
    refused,
    serving,
)
from tests.event_lines import lines_of
from tests.waiting import PATIENCE, until, until_gone
from vllm.entrypoints.cli import main
from vllm.entrypoints.openai.front_group import FrontGroup

pytestmark = needs_torch
LONG = {"prompt": "a", "max_tokens": 100, "ignore_eos": True, "stream": True}


def fronts_of(server):
    """The processes that handle HTTP, the first that was started first."""
    found = []
    for pid in children_of(server.pid):
        with contextlib.suppress(OSError):
            if b"openai.front\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


@contextlib.contextmanager
def clients_of(where, count):
    """Clients with a connection each, which go to a front each."""
    with contextlib.ExitStack() as stack:
        base = where.replace("/v1", "")
        clients = [
            stack.enter_context(httpx.Client(base_url=base, timeout=PATIENCE)) for _ in range(count)
        ]
        for client in clients:
            assert client.get("/health").status_code == 200
        yield clients


@pytest.fixture(scope="module")
def server(chat_model):
    words = ["--api-server-count", 3, "--max-queued-sequences", 10, "--max-stored-responses", 30]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words) as (process, ready):
        process.where = ready["where"]
        yield process


@pytest.fixture
def clients(server):
    with clients_of(server.where, 3) as clients:
        yield clients


def respond(client, **body):
    body = {"input": "the cat", "max_output_tokens": 4, **body}
    return client.post("/v1/responses", json=body)


def front_of(answer):
    return int(answer["id"][len("resp_") :][:2], 16)


def values(client):
    """{name: value} of the metrics without labels of their own."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if not set(sample.labels) - {"engine", "model_name"}:
                found[sample.name.removeprefix("vllm:")] = sample.value
    return found


def settle(client):
    """Waits until nothing is left to compute."""

    def is_settled():
        found = values(client)
        return found["num_requests_running"] == found["num_requests_waiting"] == 0

    until(is_settled, "requests are left")


def test_each_of_several_connections_goes_to_another_process(server, clients):
    assert len(fronts_of(server)) == 3
    assert {front_of(respond(client).json()) for client in clients} == {1, 2, 3}


def test_a_stored_response_is_found_whichever_process_answers(clients):
    stored = [respond(client).json() for client in clients]
    for client in clients:
        for each in stored:
            assert client.get(f"/v1/responses/{each['id']}").json() == each
    assert client.get("/v1/responses/resp_02" + "0" * 46).status_code == 404
    deleted = clients[0].delete(f"/v1/responses/{stored[1]['id']}")
    assert deleted.json()["deleted"] is True
    assert clients[2].get(f"/v1/responses/{stored[1]['id']}").status_code == 404


def test_a_response_goes_on_where_the_one_before_is_stored(clients):
    first = respond(clients[0]).json()
    for client in clients:
        after = respond(client, previous_response_id=first["id"])
        assert after.status_code == 200
        assert front_of(after.json()) == front_of(first)
        whole = after.json()
    streamed = respond(clients[1], previous_response_id=first["id"], stream=True, temperature=0)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = re.findall(r"^event: (.+)$", streamed.text, re.MULTILINE)
    assert (events[0], events[-1]) == ("response.created", "response.incomplete")
    assert whole["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    gone = respond(clients[1], previous_response_id=first["id"][:-1] + "x")
    assert gone.status_code == 404
    assert gone.json()["error"]["param"] == "previous_response_id"


def test_a_background_response_is_cancelled_by_another_process(clients):
    begun = respond(clients[0], background=True, max_output_tokens=100).json()
    ended = clients[1].post(f"/v1/responses/{begun['id']}/cancel").json()
    assert ended["status"] in ("cancelled", "incomplete", "completed")
    assert clients[2].get(f"/v1/responses/{begun['id']}").json() == ended


def test_a_client_that_leaves_a_passed_on_stream_cancels_it(clients):
    first = respond(clients[0]).json()
    body = {"input": "a", "previous_response_id": first["id"], "stream": True}
    with clients[1].stream("POST", "/v1/responses", json=body) as response:
        next(lines_of(response))
    settle(clients[2])


def test_the_metrics_are_the_sums_whichever_process_answers(clients):
    before = values(clients[0])
    body = {"prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True, "temperature": 0}
    for client in clients:
        assert client.post("/v1/completions", json=body).status_code == 200
    settle(clients[0])
    assert values(clients[0]) == values(clients[1]) == values(clients[2])
    gained = {name: value - before[name] for name, value in values(clients[1]).items()}
    assert gained["prompt_tokens_total"] == 9
    assert gained["generation_tokens_total"] == 12
    assert gained["e2e_request_latency_seconds_count"] == 3
    assert gained["request_generation_tokens_sum"] == 12
    assert gained["num_requests_running"] == 0


def refusal(client):
    """Of a full queue. A background response is counted just after its client has got it: until
    then a request is let in, and leaves."""
    while True:
        with contextlib.suppress(httpx.TimeoutException):
            found = client.post("/v1/completions", json={"prompt": "hi"}, timeout=2)
            assert found.status_code == 429
            return found


def test_the_limit_of_the_queue_is_one_for_all(server, clients):
    (engine,) = engines_of(server)
    os.kill(engine, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        stack.callback(os.kill, engine, signal.SIGCONT)
        for client in clients[:2]:  # a background response is accepted at once
            for _ in range(5):
                assert respond(client, background=True).status_code == 200
        full = refusal(clients[2])
        assert full.headers["Retry-After"] == "1"
        assert full.json()["error"]["message"].startswith(
            "the queue is full (10 of 10 sequences, 1 more requested"
        )
    # No gauge says that places are free again: the engine had not yet heard of these requests.
    hi = {"prompt": "hi"}
    until(
        lambda: clients[2].post("/v1/completions", json=hi).status_code == 200,
        "the queue stays full",
    )


def test_they_serve_the_same_model(clients):
    cards = [client.get("/v1/models").json() for client in clients]
    assert cards[0] == cards[1] == cards[2]


def test_draws_depend_on_the_seed_alone(clients):
    body = {"prompt": "the cat", "max_tokens": 24, "temperature": 1, "ignore_eos": True}

    def texts(**more):
        answers = [client.post("/v1/completions", json={**body, **more}) for client in clients]
        return [answer.json()["choices"][0]["text"] for answer in answers]

    assert len(set(texts(seed=3))) == 1
    assert len(set(texts())) == 3


def test_a_client_that_leaves_cancels_only_its_request(clients):
    with clients[1].stream("POST", "/v1/completions", json=LONG) as kept:
        lines = lines_of(kept)
        next(lines)
        with clients[0].stream("POST", "/v1/completions", json=LONG) as left:
            next(lines_of(left))
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert rest[-1]["choices"][0]["finish_reason"] == "length"
    settle(clients[2])


def ended(process, pids):
    """The exit status, after which no process may be left."""
    status = process.wait(PATIENCE)
    until_gone(pids)
    return status


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where servers make their folders, so short that sockets fit in it."""
    with tempfile.TemporaryDirectory(prefix="v") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_lets_requests_finish_and_leaves_nothing(chat_model, temporary, number):
    words = ["--api-server-count", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words) as (process, ready):
        pids = children_of(process.pid)
        assert len(pids) >= 3
        folders = list(temporary.glob("vllm-*"))
        assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
        with clients_of(ready["where"], 2) as clients, contextlib.ExitStack() as stack:
            streams = [
                lines_of(stack.enter_context(client.stream("POST", "/v1/completions", json=LONG)))
                for client in clients
            ]
            for stream in streams:
                next(stream)
            os.killpg(process.pid, number)
            for stream in streams:
                assert [line for line in stream if line][-1] == "data: [DONE]"
        assert ended(process, pids) == 0
        assert process.stderr.read().count("finishing running requests") == 1
    assert not list(temporary.glob("vllm-*"))


def test_nothing_outlives_a_main_process_that_is_killed(chat_model):
    words = ["--api-server-count", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words) as (process, _):
        pids = children_of(process.pid)
        process.kill()
        assert ended(process, pids) == -signal.SIGKILL


def test_a_front_that_dies_ends_the_server_with_its_error(chat_model, temporary):
    """What the other one serves is finished."""
    words = ["--api-server-count", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words) as (process, ready):
        pids, (victim, _) = children_of(process.pid), fronts_of(process)
        with clients_of(ready["where"], 2) as clients:
            fronts = [front_of(respond(client).json()) for client in clients]
            kept = clients[fronts.index(2)]
            with kept.stream("POST", "/v1/completions", json=LONG) as response:
                lines = lines_of(response)
                next(lines)
                os.kill(victim, signal.SIGKILL)
                assert [line for line in lines if line][-1] == "data: [DONE]"
        assert ended(process, pids) == 1
        assert (
            f"vllm serve: error: front process 1 of 2 has ended: its process ({victim}) was killed "
            f"by SIGKILL" in process.stderr.read()
        )
    assert not list(temporary.glob("vllm-*"))


def test_a_dead_engine_ends_the_server_with_its_error(chat_model):
    from tests.entrypoints.test_serve import DYING

    words = ["--api-server-count", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words, code=DYING) as (process, ready):
        pids = children_of(process.pid)
        assert completion(ready["where"], ignore_eos=True).status_code >= 500
        assert ended(process, pids) == 1
        assert "vllm serve: error: the engine has died: TypeError" in process.stderr.read()


def test_replicas_behind_several_fronts(chat_model):
    """A prompt goes to the replica with its beginning, whoever sends it; one that is killed is
    replaced, and all fronts know both."""
    words = ["--device", "cpu", "--data-parallel-size", 2, "--api-server-count", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *words) as (process, ready):
        pids = children_of(process.pid)
        with clients_of(ready["where"], 2) as clients:

            def cached(client, kind, more):
                body = {"prompt": [kind] * 64 + [more], "max_tokens": 2, "temperature": 0}
                usage = client.post("/v1/completions", json=body).json()["usage"]
                return usage["prompt_tokens_details"]["cached_tokens"]

            first, other = clients
            assert [cached(first, 1, 1), cached(first, 2, 2)] == [0, 0]  # in turns
            assert [cached(other, 1, 3), cached(first, 2, 4), cached(other, 2, 5)] == [64] * 3
            victim, _ = engines_of(process)
            os.kill(victim, signal.SIGKILL)
            assert any("has ended, and is started again" in line for line in process.stderr)
            assert [completion(ready["where"]).status_code for _ in range(4)] == [200] * 4
            assert any("serves again" in line for line in process.stderr)
            pids += children_of(process.pid)
            assert victim not in engines_of(process)
            # One replica has lost its cache.
            assert sorted(cached(first, kind, 9) for kind in (1, 2)) == [0, 64]
            kinds = itertools.count(3)

            def know_the_same(one, two):
                """New prompts go to the replicas in turns, and the other front finds them there."""
                pairs = [[cached(one, k, 1), cached(two, k, 2)] for k in itertools.islice(kinds, 2)]
                return pairs == [[0, 64]] * 2

            # Each front connects to the new replica when it can.
            until(
                lambda: know_the_same(first, other) and know_the_same(other, first),
                "they do not know the same replicas",
            )
        process.send_signal(signal.SIGTERM)
        assert ended(process, pids) == 0


def test_a_unix_socket_and_keys(chat_model, tmp_path):
    """The keys are on no command line."""
    path = tmp_path / "server.sock"
    words = ["--uds", path, "--api-server-count", 2, "--config", tmp_path / "keys.yaml"]
    (tmp_path / "keys.yaml").write_text("api-key: hidden\n")
    with serving(chat_model.folder, *words, *SMALL) as (process, ready):
        assert ready["where"] == f"unix:{path}/v1"
        assert path.stat().st_mode & 0o777 == 0o600
        for pid in children_of(process.pid):
            assert b"hidden" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        base = {"base_url": "http://server", "headers": {"Authorization": "Bearer hidden"}}
        base["timeout"] = PATIENCE
        with contextlib.ExitStack() as stack:
            one, two = (
                stack.enter_context(
                    httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), **base)
                )
                for _ in range(2)
            )
            stored = [respond(client).json() for client in (one, two)]
            assert {front_of(each) for each in stored} == {1, 2}
            assert two.get(f"/v1/responses/{stored[0]['id']}").json() == stored[0]
            wrong = {"Authorization": "Bearer other"}
            assert two.get(f"/v1/responses/{stored[0]['id']}", headers=wrong).status_code == 401
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not path.exists()


@pytest.mark.parametrize(("chosen", "by"), [(1, "_serve"), (3, "main_process.serve")])
def test_a_count_that_is_not_given_is_chosen(monkeypatch, chosen, by):
    found = []

    async def serve(args, options, listening, started):
        found.append(options.api_server_count)

    monkeypatch.setattr(f"vllm.entrypoints.openai.server.{by}", serve)
    monkeypatch.setattr("vllm.entrypoints.openai.server.choose_num_fronts", lambda args: chosen)
    assert main(["serve", "model", "--port", "0"]) == 0
    assert found == [chosen]


@pytest.mark.parametrize("count", [0, 256, -1])
def test_a_wrong_count_is_refused(capsys, count):
    told = refused(capsys, "gone", "--api-server-count", count)
    assert f"api_server_count must be an integer, in [1, 255], got {count}" in told


def test_what_cannot_be_served_is_said_as_by_one_process(capsys, chat_model):
    told = refused(capsys, "./gone", "--port", 0, "--api-server-count", 2)
    assert "neither a folder nor a hub id" in told
    words = ["--port", 0, "--api-server-count", 2, "--max-model-len", 10**6]
    told = refused(capsys, chat_model.folder, *words)
    assert told.endswith("\n")
    assert "vllm serve: error: max_model_len (1000000) is more than" in told


def test_the_id_of_a_response_says_who_stores_it(tmp_path):
    two = FrontGroup(2, 3, folder=tmp_path)
    three = FrontGroup(3, 3, folder=tmp_path)
    id = two.new_response_id()
    assert re.fullmatch(r"resp_02[0-9a-f]{46}", id)
    assert two.socket_of(id) is None
    assert three.socket_of(id) == two.socket(2) == tmp_path / "front-2"
    for unknown in ("resp_04" + "0" * 46, "resp_00", "resp_zz", "resp_", "", "x", "resp_-1"):
        assert three.socket_of(unknown) is None
    assert FrontGroup().socket_of(FrontGroup().new_response_id()) is None
    assert [three.share(limit) for limit in (0, 1, 3, 1000)] == [0, 1, 1, 334]
