"""Requests with a priority: by `LLM`, in an event loop, and to another process."""

from __future__ import annotations

import asyncio
import threading
import types

import pytest

from vllm import LLM, AsyncLLMEngine, EngineArgs, SamplingParams
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.main import Outbox
from vllm.engine_process.main import _add as add_sequences

PRIORITIES = [3, 0, -7, 0, 2]
SERVED = [2, 1, 3, 4, 0]  # places in PRIORITIES
FEW = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True)
REFUSED = "priority must be 0, got 1: this engine serves requests in the order of their arrival"


@pytest.fixture(scope="module")
def args(chat_model):
    return EngineArgs(
        str(chat_model.folder), num_kv_blocks=64, max_num_seqs=1, scheduling_policy="priority"
    )


def order(outputs):
    """Which was computed first, second, …"""
    return sorted(range(len(outputs)), key=lambda at: outputs[at].metrics.first_scheduled_time)


def test_prompts_of_one_call(chat_model):
    llm = LLM(
        str(chat_model.folder), num_kv_blocks=64, max_num_seqs=1, scheduling_policy="priority"
    )
    prompts = [[at + 1] for at in range(len(PRIORITIES))]
    assert order(llm.generate(prompts, FEW, priority=PRIORITIES)) == SERVED
    assert order(llm.generate(prompts, FEW)) == sorted(SERVED)
    with pytest.raises(ValueError, match="priority must be one per prompt: got 1 for 5 prompts"):
        llm.generate(prompts, FEW, priority=[1])
    with pytest.raises(ValueError, match="priority must be an integer of 64 bits, got 'high'"):
        llm.generate("the cat", FEW, priority=["high"])


def test_it_is_refused_where_nobody_looks_at_it(chat_model):
    llm = LLM(str(chat_model.folder), num_kv_blocks=64)
    with pytest.raises(ValueError, match=f"prompt 1: {REFUSED}"):
        llm.generate([[1], [2]], FEW, priority=[0, 1])
    assert llm.generate([1], FEW, priority=[0])[0].finished


@pytest.mark.parametrize("max_requests", [1, 16])
def test_those_that_wait_in_a_loop(args, max_requests):
    """max_requests: with 1 they wait before the engine, with 16 in it."""

    async def all_of(engine, prompt, priority):
        return [each async for each in engine.generate(prompt, FEW, priority=priority)][-1]

    async def run():
        async with AsyncLLMEngine(args, max_requests=max_requests) as engine:
            go, one_step = threading.Event(), engine.engine.step
            engine.engine.step = lambda: one_step() if go.wait(60) else pytest.fail("nobody went")
            # This one runs when the others come.
            tasks = [asyncio.ensure_future(all_of(engine, [1], 9))]
            tasks += [asyncio.ensure_future(all_of(engine, [5], each)) for each in PRIORITIES]
            await asyncio.sleep(0)  # all have been sent, or wait for a place
            go.set()
            _, *outputs = await asyncio.gather(*tasks)
            return order(outputs)

    assert asyncio.run(run()) == SERVED


def test_it_crosses_to_the_engines_process(args, chat_model):
    sent = []

    async def run():
        async with await AsyncEngineClient.start(args) as client:
            (connection,) = client._engines.values()
            add = connection.add
            connection.add = lambda request: (sent.append(request), add(request))
            return [each async for each in client.generate([1], FEW, priority=-3)][-1]

    assert asyncio.run(run()).finished
    engine = LLM(str(chat_model.folder), num_kv_blocks=64, scheduling_policy="priority").llm_engine
    directly = types.SimpleNamespace(
        add_all=lambda requests: [engine.add(request) for request, _ in requests]
    )
    add_sequences(engine, directly, [Outbox(engine, print)], sent)
    assert [seq.priority for seq in engine.scheduler.waiting] == [-3]
