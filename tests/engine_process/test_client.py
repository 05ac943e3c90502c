"""The client with a real engine in another process: the same results as `LLM`, and no leaks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import stat

import pytest

from tests.models.support import prompts_of
from tests.waiting import PATIENCE
from vllm import LLM, EngineArgs, RequestOutputKind, SamplingParams
from vllm.config import ModelError
from vllm.engine_process.client import AsyncEngineClient

PROMPTS = prompts_of([3, 9, 14, 5])
LONG = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
MANY = {"n": 3, "temperature": 1.0, "seed": 5}
KINDS = {
    "greedy": {},
    "many": {**MANY},
    "logprobs": {**MANY, "logprobs": 2},
    "prompt": {"prompt_logprobs": 1, "logprobs": 0},
    "stop string": {"stop": ["e", "t"]},
    "stop string of many": {**MANY, "stop": ["e"], "include_stop_str_in_output": True},
    "stop string, logprobs": {**MANY, "stop": ["a"], "logprobs": 1},
    "stop token": {"stop_token_ids": list(range(0, 300, 3))},
    "penalties": {**MANY, "presence_penalty": 1.0, "repetition_penalty": 1.3},
    "bias": {"logit_bias": {5: 100, 6: 99}, "bad_words": ["e"], "min_tokens": 4},
    "allowed": {"allowed_token_ids": [5, 6, 7], **MANY},
    "regex": {"structured_outputs": {"regex": "[ab]{3}c+"}},
    "contradiction": {"structured_outputs": {"regex": "[ab]{3}c+"}, "bad_words": ["c"]},
}


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def args(chat_model):
    return EngineArgs(str(chat_model.folder), num_kv_blocks=64, max_num_seqs=4)


@pytest.fixture(scope="module")
def client(loop, args):
    """Two engines behind one client."""
    client = loop.run_until_complete(AsyncEngineClient.start(args, num_engines=2))
    yield client
    pids = client.pids
    loop.run_until_complete(client.shutdown())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.fixture(scope="module")
def llm(chat_model):
    return LLM(str(chat_model.folder), num_kv_blocks=64)


async def collect(outputs):
    return [output async for output in outputs]


async def settled(client):
    """Waits until the engines have nothing to do; they must say so."""
    while any(client.load):
        await asyncio.sleep(0.01)
    assert not any(engine.readers for engine in client._engines.values())
    assert not client._readers


def joined(outputs):
    """What a stream of deltas adds up to, by index."""
    found = {}
    for output in outputs:
        for each in output.outputs:
            old = found.setdefault(each.index, dataclasses.replace(each, text="", token_ids=[]))
            logprobs = each.logprobs
            if logprobs is not None and old.token_ids:
                logprobs = old.logprobs + logprobs
            found[each.index] = dataclasses.replace(
                each,
                text=old.text + each.text,
                token_ids=old.token_ids + each.token_ids,
                logprobs=logprobs,
            )
    return [found[index] for index in sorted(found)]


def told(outputs):
    """All but log-probabilities, whose last digits depend on who else is in a batch."""
    fields = {"logprobs": None, "cumulative_logprob": None}
    return [dataclasses.replace(output, **fields) for output in outputs]


def assert_close(found, expected):
    """Log-probabilities: the same tokens at each position, with the same values but for those."""
    if expected is None:
        assert found is None
        return
    assert len(found) == len(expected)
    for entry, other in zip(found, expected):
        assert (entry is None) == (other is None)
        for token, logprob in (other or {}).items():
            assert entry[token].logprob == pytest.approx(logprob.logprob, abs=1e-4)
            assert entry[token].rank == logprob.rank
            assert entry[token].decoded_token == logprob.decoded_token


@pytest.mark.parametrize("kind", list(RequestOutputKind))
@pytest.mark.parametrize("name", KINDS)
def test_the_outputs_are_those_of_the_library(loop, client, llm, name, kind):
    params = SamplingParams(**{"max_tokens": 12, "temperature": 0, **KINDS[name]})
    expected = llm.generate(PROMPTS, params)

    async def run():
        asked = dataclasses.replace(params, output_kind=kind)
        found = await asyncio.gather(*(collect(client.generate(p, asked)) for p in PROMPTS))
        await settled(client)
        return found

    for outputs, whole in zip(loop.run_until_complete(run()), expected):
        last = outputs[-1]
        assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
        if kind is RequestOutputKind.FINAL_ONLY:
            assert len(outputs) == 1
        texts = joined(outputs) if kind is RequestOutputKind.DELTA else last.outputs
        assert told(texts) == told(whole.outputs)
        assert last.prompt_token_ids == whole.prompt_token_ids
        assert_close(last.prompt_logprobs, whole.prompt_logprobs)
        for each, other in zip(texts, whole.outputs):
            assert_close(each.logprobs, other.logprobs)
        times = last.metrics
        assert times.arrival_time <= times.first_scheduled_time <= times.first_token_time
        assert times.first_token_time <= times.finished_time


@contextlib.contextmanager
def stopped(client):
    """Its engines do nothing meanwhile."""
    for pid in client.pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in client.pids:
            os.kill(pid, signal.SIGCONT)


def test_both_engines_work(loop, client):
    async def run():
        with stopped(client):
            asked = [asyncio.ensure_future(collect(client.generate(p, LONG))) for p in PROMPTS]
            while len(client._readers) < 4 or None in client._readers.values():
                await asyncio.sleep(0)
            shares = [len(engine.readers) for engine in client._engines.values()]
        await asyncio.gather(*asked)
        await settled(client)
        return shares

    assert loop.run_until_complete(run()) == [2, 2]


def test_leaving_and_aborting_free_the_cache(loop, client):
    async def run():
        left = client.generate(PROMPTS[0], dataclasses.replace(LONG, temperature=1.0, n=2))
        await left.__anext__()
        await left.aclose()
        await settled(client)
        many = dataclasses.replace(LONG, temperature=1.0, n=60)  # not over before it is aborted
        aborted = client.generate(PROMPTS[1], many, "mine")
        await aborted.__anext__()
        await client.abort("mine")
        (*_, last) = await collect(aborted)
        assert last.outputs[-1].finish_reason == "abort"
        assert len(last.outputs[-1].token_ids) < 100
        await client.abort("mine")
        await settled(client)

    loop.run_until_complete(asyncio.wait_for(run(), PATIENCE))


def test_a_slow_reader_gets_everything_in_few_outputs(loop, client, llm):
    params = dataclasses.replace(LONG, output_kind=RequestOutputKind.DELTA)

    async def run():
        slow = client.generate(PROMPTS[0], params)
        outputs = [await slow.__anext__()]
        while any(client.load):
            await asyncio.sleep(0.01)
        return outputs + await collect(slow)

    outputs = loop.run_until_complete(run())
    assert len(outputs) <= 3
    assert told(joined(outputs)) == told(llm.generate(PROMPTS[0], LONG)[0].outputs)


def test_what_cannot_be_served_is_refused_here(loop, client):
    async def run():
        with pytest.raises(ValueError, match="the prompt is empty"):
            await collect(client.generate([], LONG))
        bad = SamplingParams(structured_outputs={"regex": "("})
        with pytest.raises(ValueError, match="structured_outputs"):
            await collect(client.generate(PROMPTS[0], bad))
        assert not client._readers

    loop.run_until_complete(run())


def test_a_request_that_could_never_run_is_refused_by_the_engine(loop, chat_model):
    """The client does not know how large the cache is."""
    args = EngineArgs(str(chat_model.folder), num_kv_blocks=4, block_size=4)

    async def run():
        async with await AsyncEngineClient.start(args) as client:
            assert client.max_model_len == 16
            (*_, last) = await collect(client.generate(PROMPTS[0], LONG))
            return last

    assert len(loop.run_until_complete(run()).outputs[0].token_ids) == 13


def test_the_sockets_are_this_users(client):
    for engine in client._engines.values():
        assert stat.S_IMODE(engine.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"model": "./gone"}, ModelError, "neither a folder nor a hub id"),
        ({"max_model_len": 10**6}, ValueError, r"max_model_len \(1000000\) is more than"),
        ({"device": "quantum"}, ValueError, "device must be auto"),
    ],
)
def test_what_the_engine_does_not_like_is_raised_here(loop, args, fields, error, text):
    with pytest.raises(error, match=text):
        loop.run_until_complete(AsyncEngineClient.start(dataclasses.replace(args, **fields)))
