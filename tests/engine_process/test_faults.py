"""Failures of an engine's process or of its client, with real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from tests.engine_process import faulty
from tests.waiting import PATIENCE, is_there, until_gone
from vllm import EngineArgs, SamplingParams
from vllm.engine.engine_thread import EngineClosedError
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.process import EngineProcess
from vllm.errors import EngineError

LONG = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)


@pytest.fixture
def args(chat_model, monkeypatch):
    monkeypatch.setattr(EngineProcess, "module", faulty.MODULE)
    return EngineArgs(str(chat_model.folder), num_kv_blocks=64, max_num_seqs=4)


async def collect(outputs):
    return [output async for output in outputs]


async def run_with_fault(args):
    """What three requests get, one that comes later, and why the engine has died."""
    async with await AsyncEngineClient.start(args) as client:
        tasks = [collect(client.generate([1, 2, place], LONG)) for place in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        late = await asyncio.gather(collect(client.generate([5], LONG)), return_exceptions=True)
        return results, late[0], client.dead_error


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [("is killed", "EngineEnded", "was killed by SIGKILL"), ("dies", "TypeError", "not callable")],
)
def test_everybody_gets_the_cause(args, monkeypatch, what, kind, text):
    monkeypatch.setenv("FAULT", what)
    results, late, cause = asyncio.run(asyncio.wait_for(run_with_fault(args), PATIENCE))
    assert isinstance(cause, EngineError)
    assert cause.kind == kind
    assert text in str(cause)
    assert type(late) is EngineClosedError
    assert late.__cause__ is cause
    for result in results:
        assert type(result) in (EngineClosedError, EngineError)
    assert any(type(result) is EngineClosedError or result.kind for result in results)


def test_a_step_that_fails_ends_what_was_in_it(args, monkeypatch):
    monkeypatch.setenv("FAULT", "raises")
    results, late, cause = asyncio.run(asyncio.wait_for(run_with_fault(args), PATIENCE))
    failed = [result for result in results if isinstance(result, EngineError)]
    assert failed
    assert {(error.kind, str(error)) for error in failed} == {
        ("ArithmeticError", "an injected error")
    }
    assert cause is None
    assert len(late[-1].outputs[0].token_ids) == 60


def test_an_engine_that_cannot_be_made_is_told(args, monkeypatch):
    monkeypatch.setenv("FAULT", "cannot be made")
    with pytest.raises(EngineError, match="division by zero") as raised:
        asyncio.run(AsyncEngineClient.start(args))
    assert raised.value.kind == "ZeroDivisionError"


# Serves for ever; says the engine's process.
CLIENT = """
import asyncio, sys
from vllm import EngineArgs, SamplingParams
from vllm.engine_process.client import AsyncEngineClient

async def main():
    client = await AsyncEngineClient.start(EngineArgs(sys.argv[1], num_kv_blocks=64))
    print(*client.pids, flush=True)
    while True:
        async for _ in client.generate([1, 2], SamplingParams(max_tokens=99, ignore_eos=True)):
            pass

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_its_client(chat_model, number):
    command = [sys.executable, "-c", CLIENT, str(chat_model.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        pid = int(client.stdout.readline())
        assert is_there(pid)
        client.send_signal(number)
        client.wait()
    until_gone([pid])
