"""Many asyncio tasks, one engine: order, back-pressure, cancellation, failures, shutdown."""

from __future__ import annotations

import array
import asyncio
import dataclasses
import itertools
import threading

import pytest

from tests.models.support import prompts_of
from vllm import LLM, AsyncLLMEngine, EngineArgs, RequestOutputKind, SamplingParams
from vllm.engine.async_engine import SHORT_TEXT, SHORT_TOKENS
from vllm.engine.engine_thread import EngineClosedError
from vllm.engine.mailbox import Mailbox
from vllm.engine.request_maker import RequestMaker
from vllm.outputs import RequestOutput

GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
DELTA = dataclasses.replace(GREEDY, output_kind=RequestOutputKind.DELTA)
PROMPTS = prompts_of([3, 9, 14, 5, 11, 20, 8, 2])


@pytest.fixture(scope="module")
def args(chat_model):
    return EngineArgs(
        str(chat_model.folder),
        skip_tokenizer_init=True,
        num_kv_blocks=40,
        block_size=4,
        max_num_seqs=3,
        max_num_batched_tokens=16,
        max_model_len=100,
    )


@pytest.fixture(scope="module")
def expected(chat_model):
    llm = LLM(str(chat_model.folder), skip_tokenizer_init=True, num_kv_blocks=64)
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, GREEDY)]


async def last(outputs):
    return [output async for output in outputs][-1]


def all_free(engine):
    manager = engine.engine.scheduler.block_manager
    return manager.num_free_blocks == manager.num_blocks


def test_more_requests_than_fit_are_all_served(args, expected):
    async def run():
        async with AsyncLLMEngine(args, max_requests=4) as engine:
            outputs = await asyncio.gather(*(last(engine.generate(p, GREEDY)) for p in PROMPTS * 3))
            assert all_free(engine)
        return [output.outputs[0].token_ids for output in outputs]

    assert asyncio.run(run()) == expected * 3


def test_no_more_than_max_requests_are_inside(args):
    async def run():
        async with AsyncLLMEngine(args, max_requests=2) as engine:
            most = 0

            async def watch():
                nonlocal most
                while True:
                    most = max(most, engine.engine.get_num_unfinished_requests())
                    await asyncio.sleep(0)

            watcher = asyncio.create_task(watch())
            await asyncio.gather(*(last(engine.generate(p, GREEDY)) for p in PROMPTS))
            watcher.cancel()
            return most

    assert 1 <= asyncio.run(run()) <= 2


def test_a_slow_reader_gets_everything_in_few_outputs(args, expected):
    async def run(params):
        async with AsyncLLMEngine(args) as engine:
            stream = engine.generate(PROMPTS[0], params)
            outputs = [await stream.__anext__()]
            await last(engine.generate(PROMPTS[1], dataclasses.replace(GREEDY, max_tokens=60)))
            outputs += [output async for output in stream]
            return [output.outputs[0] for output in outputs]

    deltas = asyncio.run(run(DELTA))
    assert [token for delta in deltas for token in delta.token_ids] == expected[0]
    assert len(deltas) < 20
    assert deltas[-1].finish_reason == "length"
    assert asyncio.run(run(GREEDY))[-1].token_ids == expected[0]


def test_leaving_cancelling_and_aborting_free_the_cache(args, monkeypatch):
    long = dataclasses.replace(GREEDY, max_tokens=80)

    async def run():
        async with AsyncLLMEngine(args, max_requests=3) as engine:
            left = engine.generate(PROMPTS[0], long)
            await left.__anext__()
            await left.aclose()

            task = asyncio.create_task(last(engine.generate(PROMPTS[1], long)))
            while not any(engine._readers.values()):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            resume = pause_after_output(monkeypatch, engine, PROMPTS[2])
            aborted = engine.generate(PROMPTS[2], long, request_id="mine")
            await aborted.__anext__()
            await engine.abort("mine")
            resume.set()
            final = await last(aborted)
            assert final.finished
            assert final.outputs[0].finish_reason == "abort"
            assert len(final.outputs[0].token_ids) < 80

            await engine.abort("nobody's")
            # A request after them is served only once the engine has dealt with all that.
            await last(engine.generate(PROMPTS[3], GREEDY))
            assert all_free(engine)

    asyncio.run(run())


def test_a_request_that_waits_outside_can_be_aborted(args):
    async def run():
        async with AsyncLLMEngine(args, max_requests=1) as engine:
            first = engine.generate(PROMPTS[0], dataclasses.replace(GREEDY, max_tokens=80))
            await first.__anext__()
            waiting = asyncio.create_task(last(engine.generate(PROMPTS[1], GREEDY, "waiting")))
            while "waiting" not in engine._readers:
                await asyncio.sleep(0)
            await engine.abort("waiting")
            await last(first)
            return (await waiting).outputs[0]

    output = asyncio.run(run())
    assert output.finish_reason == "abort"
    assert output.token_ids == []


def test_chat_answers_as_llm_chat_does(chat_model):
    folder, messages = str(chat_model.folder), [{"role": "user", "content": "the cat"}]
    llm = LLM(folder, num_kv_blocks=64)
    kwargs = {"chat_template": "{{ mood }}: {{ messages[0].content }}"}
    kwargs["chat_template_kwargs"] = {"mood": "calm"}

    async def run(**kwargs):
        async with AsyncLLMEngine(EngineArgs(folder, num_kv_blocks=64)) as engine:
            with pytest.raises(ValueError, match="refused these messages"):
                await last(engine.chat(messages, chat_template="{{ raise_exception('no') }}"))
            return await last(engine.chat(messages, GREEDY, **kwargs))

    quoting = "{{ tools[0].name }}, {{ documents[0].text }}: {{ messages[0].content }}"
    quoted = {"chat_template": quoting, "tools": [{"name": "f"}], "documents": [{"text": "d"}]}
    prefix = {"continue_final_message": True, "add_generation_prompt": False}

    for given in ({}, {"add_generation_prompt": False}, prefix, quoted, kwargs):
        answer, expected = asyncio.run(run(**given)), llm.chat(messages, GREEDY, **given)[0]
        assert answer.prompt == expected.prompt
        assert answer.outputs == expected.outputs
    assert answer.prompt == "calm: the cat"


def test_chat_needs_a_tokenizer(args):
    async def run():
        async with AsyncLLMEngine(args) as engine:
            with pytest.raises(ValueError, match="this engine has no tokenizer"):
                await last(engine.chat([{"role": "user", "content": "hi"}]))

    asyncio.run(run())


def test_refused_requests_raise_and_leave_no_trace(args):
    async def run():
        async with AsyncLLMEngine(args) as engine:
            with pytest.raises(ValueError, match="the prompt is empty"):
                await last(engine.generate([], GREEDY))
            with pytest.raises(ValueError, match="must be a SamplingParams, got"):
                await last(engine.generate(PROMPTS[0], {"n": 1}))
            stream = engine.generate(PROMPTS[0], GREEDY, "same")
            outputs = [await stream.__anext__()]  # all of them in one, if this task came late
            with pytest.raises(ValueError, match="request id 'same' is in use"):
                await last(engine.generate(PROMPTS[0], GREEDY, "same"))
            outputs += [output async for output in stream]
            assert outputs[-1].finished
            assert (await last(engine.generate(PROMPTS[0], GREEDY, "same"))).finished

    asyncio.run(run())


def test_a_failed_step_reaches_its_requests_and_the_engine_goes_on(args, expected, monkeypatch):
    async def run():
        async with AsyncLLMEngine(args) as engine:
            with monkeypatch.context() as patch:
                patch.setattr(engine.engine.executor.runner.model, "forward", lambda *args: 1 / 0)
                tasks = [last(engine.generate(prompt, GREEDY)) for prompt in PROMPTS[:3]]
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [ZeroDivisionError] * 3
            output = await last(engine.generate(PROMPTS[0], GREEDY))
            assert output.outputs[0].token_ids == expected[0]
            assert all_free(engine)

    asyncio.run(run())


class Fault(BaseException):
    """Something that no code foresees."""


# What the thread calls: where, and what of the calls before that one goes well.
CALLS = [
    ("add", 0),
    ("add", 2),
    ("step", 0),
    ("step", 3),
    ("abort_request", 0),
    ("has_unfinished_requests", 0),
    ("has_unfinished_requests", 4),
    ("deliver", 0),
    ("deliver", 5),
]
LONG = dataclasses.replace(GREEDY, max_tokens=80)


def inject(monkeypatch, engine, call, num_well, error):
    """Lets a call fail once, after so many that do not."""
    owner, count = (Mailbox if call == "deliver" else type(engine.engine)), itertools.count()
    real = getattr(owner, call)
    as_property = isinstance(real, property)

    def faulty(self, *args):
        if threading.current_thread() is engine._thread._thread and next(count) == num_well:
            raise error
        return real.fget(self) if as_property else real(self, *args)

    monkeypatch.setattr(owner, call, property(faulty) if as_property else faulty)


def pause_after_output(monkeypatch, engine, prompt):
    """After an output for a prompt, the engine takes no step until the returned event is set."""
    resume, real, has_output = threading.Event(), type(engine.engine).step, False

    def step(self):
        nonlocal has_output
        if has_output:
            assert resume.wait(60)
        outputs = real(self)
        has_output |= any(output.prompt_token_ids == prompt for output in outputs)
        return outputs

    monkeypatch.setattr(type(engine.engine), "step", step)
    return resume


@pytest.mark.parametrize("error", [RuntimeError("a defect"), SystemExit(3), Fault("x")], ids=repr)
@pytest.mark.parametrize(("call", "num_well"), CALLS)
def test_nobody_waits_for_ever_and_everybody_gets_the_cause(
    args, monkeypatch, call, num_well, error
):
    told_alone = call == "step" and isinstance(error, Exception)
    aborts = call == "abort_request"

    async def run():
        async with AsyncLLMEngine(args) as engine:
            inject(monkeypatch, engine, call, num_well, error)
            resume = pause_after_output(monkeypatch, engine, PROMPTS[0]) if aborts else None
            left = engine.generate(PROMPTS[0], LONG)
            tasks = [asyncio.create_task(last(engine.generate(p, LONG))) for p in PROMPTS[1:6]]
            tasks.append(asyncio.create_task(left.__anext__()))
            if resume is not None:  # a request that has ended by then would not be aborted
                await tasks[-1]
                await left.aclose()
                resume.set()
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
            if not told_alone:
                late = asyncio.wait_for(last(engine.generate(PROMPTS[6], LONG)), 60)
                results += await asyncio.gather(late, return_exceptions=True)
                await asyncio.wait_for(engine.wait_until_dead(), 60)
            assert engine.dead_error is (None if told_alone else error)
            return results

    results = asyncio.run(run())
    failed = [result for result in results if not isinstance(result, RequestOutput)]
    assert failed
    for result in failed:
        if told_alone:
            assert result is error
        else:
            assert isinstance(result, EngineClosedError)
            assert result.__cause__ is error
            assert type(error).__name__ in str(result)


async def begun_shutdown(engine):
    """The task of a shutdown that takes no further requests, and waits for the step."""
    closing = asyncio.create_task(engine.shutdown())
    while not engine._thread._closing:
        await asyncio.sleep(0.01)
    return closing


def test_shutdown_tells_those_who_wait_and_those_who_come(args, monkeypatch):
    async def run():
        engine = AsyncLLMEngine(args, max_requests=1)
        watching = asyncio.create_task(engine.wait_until_dead())
        given_up = asyncio.create_task(engine.wait_until_dead())
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert not watching.done()
        resume = pause_after_output(monkeypatch, engine, PROMPTS[0])
        first = engine.generate(PROMPTS[0], LONG)
        await first.__anext__()
        outside = asyncio.create_task(last(engine.generate(PROMPTS[1], GREEDY)))
        while len(engine._readers) < 2:
            await asyncio.sleep(0)
        closing = await begun_shutdown(engine)
        resume.set()
        await closing
        await engine.shutdown()
        await asyncio.wait_for(watching, 60)
        assert engine.dead_error is None
        for waiting in (last(first), outside, last(engine.generate(PROMPTS[2], GREEDY))):
            with pytest.raises(EngineClosedError, match="shut down"):
                await waiting

    asyncio.run(run())


def test_shutdown_tells_those_whose_request_has_not_been_looked_at(args, monkeypatch):
    """They have been let in, and the engine is in a step, or asleep."""

    async def run():
        engine = AsyncLLMEngine(args)
        step = engine.engine.step
        stepping, go_on = threading.Event(), threading.Event()

        def slow_step():
            stepping.set()
            assert go_on.wait(60)
            return step()

        monkeypatch.setattr(engine.engine, "step", slow_step)
        tasks = [asyncio.create_task(last(engine.generate(PROMPTS[0], GREEDY)))]
        while not stepping.is_set():
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(last(engine.generate(p, GREEDY))) for p in PROMPTS[1:4]]
        while engine._thread._messages.qsize() < 3:
            await asyncio.sleep(0.01)
        closing = await begun_shutdown(engine)
        go_on.set()
        await closing
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    assert [type(result) for result in asyncio.run(run())] == [EngineClosedError] * 4


def test_a_closed_loop_stops_the_work_for_it(args):
    engine = AsyncLLMEngine(args)

    async def start():
        stream = engine.generate(PROMPTS[0], dataclasses.replace(GREEDY, max_tokens=80))
        await stream.__anext__()
        return stream

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    loop.close()
    asyncio.run(engine.shutdown())
    assert all_free(engine)


def test_an_id_can_be_used_again_after_an_abort_outside(args, expected):
    async def run():
        async with AsyncLLMEngine(args, max_requests=1) as engine:
            first = engine.generate(PROMPTS[0], LONG)
            await first.__anext__()
            waiting = asyncio.create_task(last(engine.generate(PROMPTS[1], GREEDY, "mine")))
            while "mine" not in engine._readers:
                await asyncio.sleep(0)
            await engine.abort("mine")
            await first.aclose()
            assert (await waiting).outputs[0].finish_reason == "abort"
            return (await last(engine.generate(PROMPTS[1], GREEDY, "mine"))).outputs[0].token_ids

    assert asyncio.run(run()) == expected[1]


SHORT = {
    "text": "x" * SHORT_TEXT,
    "tokens": [1] * SHORT_TOKENS,
    "mapping with text": {"prompt": "x" * SHORT_TEXT},
    "mapping with tokens": {"prompt": "x" * 9999, "prompt_token_ids": [1]},
}
LENGTHY = {
    "text": "x" * (SHORT_TEXT + 1),
    "tokens": [1] * (SHORT_TOKENS + 1),
    "mapping with text": {"prompt": "x" * (SHORT_TEXT + 1)},
    "array": array.array("i", [1]),  # its type has to be found out first
}
SLOW = [SamplingParams(bad_words=["x"]), SamplingParams(structured_outputs={"regex": "x"})]


@pytest.mark.parametrize(
    ("prompt", "params", "in_loop"),
    [
        *((prompt, params, True) for prompt in SHORT.values() for params in (None, GREEDY)),
        *((prompt, GREEDY, False) for prompt in LENGTHY.values()),
        *((SHORT["text"], params, False) for params in SLOW),
    ],
)
def test_the_event_loop_makes_requests_that_take_little_time(
    args, monkeypatch, prompt, params, in_loop
):
    makers = []

    def make(self, *args, **kwargs):
        makers.append(threading.current_thread())
        raise ValueError("not made")

    monkeypatch.setattr(RequestMaker, "make", make)

    async def run():
        async with AsyncLLMEngine(args) as engine:
            with pytest.raises(ValueError, match="not made"):
                await last(engine.generate(prompt, params))

    asyncio.run(run())
    assert [maker is threading.main_thread() for maker in makers] == [in_loop]


def test_max_requests_has_a_default(args):
    async def run():
        async with AsyncLLMEngine(args) as engine:
            return engine.max_requests

    assert asyncio.run(run()) == 4 * args.max_num_seqs


def test_max_requests_has_a_range(args):
    with pytest.raises(ValueError, match="max_requests must be at least 1, or None, got 0"):
        AsyncLLMEngine(args, max_requests=0)
