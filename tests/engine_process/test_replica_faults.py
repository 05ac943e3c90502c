"""One of several replicas ends: done to real processes. The others go on, and it comes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest

from tests.engine_process import faulty
from tests.waiting import PATIENCE, is_there, until_gone
from vllm import EngineArgs, SamplingParams
from vllm.engine.engine_thread import EngineClosedError
from vllm.engine_process import client as module
from vllm.engine_process import engines
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.process import EngineProcess
from vllm.errors import EngineError, ReplicaError

LONG = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
SHARE = {"OMP_NUM_THREADS": "1", "VLLM_CPU_THREADS": "1"}


@pytest.fixture
def variables(monkeypatch):
    """Those of both replicas' processes; a test may give one a fault."""
    both = [dict(SHARE), dict(SHARE)]
    monkeypatch.setattr(EngineProcess, "module", faulty.MODULE)
    monkeypatch.setattr(module, "environments", lambda args, num_engines: both)
    monkeypatch.setattr(engines, "RESTART_SECONDS", 0.01)
    return both


@pytest.fixture
def run(chat_model, variables):
    """run(coroutine function of a client) with two replicas, which must leave no process."""
    args = EngineArgs(str(chat_model.folder), num_kv_blocks=64, max_num_seqs=4, device="cpu")

    async def with_client(do):
        async with await AsyncEngineClient.start(args, num_engines=2) as client:
            started = client.pids
            try:
                await do(client)
            finally:
                started += client.pids
        assert not any(is_there(pid) for pid in started)

    return lambda do: asyncio.run(asyncio.wait_for(with_client(do), PATIENCE))


async def collect(outputs):
    return [output async for output in outputs]


def ask(client, *prompts):
    """Starts requests, one for each replica in turns."""
    return [asyncio.ensure_future(collect(client.generate(p, LONG))) for p in prompts]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def length(outputs):
    return sum(len(each.token_ids) for each in outputs[-1:][0].outputs)


async def kill_the_first(client):
    """Kills the first replica with two of four requests; those of the other are answered."""
    victim = client.pids[0]
    os.kill(victim, signal.SIGSTOP)  # so that its requests are surely unfinished
    lost, kept, also_lost, also_kept = ask(client, [1, 2], [3, 4], [5, 6], [7, 8])
    for task in (kept, also_kept):
        assert length(await task) == 60
    assert not lost.done()
    os.kill(victim, signal.SIGKILL)
    for task in (lost, also_lost):
        with pytest.raises(ReplicaError) as raised:
            await task
        assert str(raised.value) == (
            f"replica 1 of 2 has ended while it computed this request (EngineEnded: its process "
            f"({victim}) was killed by SIGKILL); others serve: send the request again"
        )
    return victim


def test_the_others_go_on_and_it_comes_back(run, caplog):
    async def do(client):
        victim = await kill_the_first(client)
        assert victim not in client.pids
        assert [length(await task) for task in ask(client, [1, 2], [5, 6])] == [60, 60]
        assert client.dead_error is None
        await until(lambda: len(client.pids) == 2)
        assert victim not in client.pids
        os.kill(client.pids[0], signal.SIGSTOP)  # now the one that was there
        tasks = ask(client, [1, 2], [3, 4])
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [length(task.result()) for task in done] == [60]
        os.kill(client.pids[0], signal.SIGCONT)
        assert [length(await task) for task in tasks] == [60, 60]

    run(do)
    said = [record.getMessage() for record in caplog.records]
    assert any(
        re.match(r"replica 1 of 2 has ended, and is started again: .*SIGKILL", s) for s in said
    )
    assert "replica 1 of 2 serves again" in said


def test_an_error_of_its_own_ends_it_alone(run, variables, caplog):
    """The engine fails and says so; its process waits for its end."""
    variables[0]["FAULT"] = "dies"

    async def do(client):
        first, second = client.pids
        lost, kept = ask(client, [1, 2], [3, 4])
        with pytest.raises(EngineError, match="an injected error"):  # as any step that fails
            await lost
        assert length(await kept) == 60
        await until(lambda: first not in client.pids)
        del variables[0]["FAULT"]
        await until(lambda: len(client.pids) == 2)
        assert second in client.pids
        assert not is_there(first)
        assert [length(await task) for task in ask(client, [1, 2], [3, 4])] == [60, 60]

    run(do)
    words = "replica 1 of 2 has ended, and is started again: TypeError: 'NoneType' object is not"
    assert any(record.getMessage().startswith(words) for record in caplog.records)


def test_without_a_way_back_it_stays_out(run, variables, caplog):
    async def do(client):
        variables[0]["FAULT"] = "cannot be made"
        await kill_the_first(client)
        await until(
            lambda: any("cannot be started again" in r.getMessage() for r in caplog.records)
        )
        assert len(client.pids) == 1
        assert [length(await task) for task in ask(client, [1, 2], [3, 4], [5])] == [60] * 3

    run(do)
    assert "replica 1 of 2 cannot be started again, and stays out: division by zero" in [
        record.getMessage() for record in caplog.records
    ]


def test_without_any_the_client_is_dead(run, monkeypatch):
    monkeypatch.setattr(engines, "RESTART_SECONDS", 1000)

    async def do(client):
        await kill_the_first(client)
        (last,) = client.pids
        os.kill(last, signal.SIGKILL)
        await client.wait_until_dead()
        assert f"({last}) was killed by SIGKILL" in str(client.dead_error)
        with pytest.raises(EngineClosedError):
            await collect(client.generate([1], LONG))

    run(do)


def test_an_end_in_the_middle_of_a_start_leaves_nothing(run, monkeypatch):
    started = []
    original = EngineProcess.__init__

    def noted(self, *args):
        original(self, *args)
        started.append(self.pid)

    monkeypatch.setattr(EngineProcess, "__init__", noted)

    async def do(client):
        await kill_the_first(client)
        await until(lambda: len(started) == 3)

    run(do)
    until_gone(started)
