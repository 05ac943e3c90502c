"""An exception at every line of a step: afterwards the engine is empty, and works.

Ctrl-C may come between any two lines. A trace function raises at one line after another of all that
a step runs in the engine, in the worker and around llguidance.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

import vllm
from tests.models.support import prompts_of
from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind

ROOT = Path(vllm.__file__).parent
FOLDERS = tuple(str(ROOT / name) for name in ("engine", "worker", "text/grammars.py"))
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
BUSY = SamplingParams(
    temperature=0.8,
    top_k=20,
    seed=3,
    max_tokens=4,
    logprobs=1,
    prompt_logprobs=1,
    repetition_penalty=1.2,
    allowed_token_ids=list(range(3, 90)),
    output_kind=RequestOutputKind.DELTA,
)
HELD = SamplingParams(temperature=0, max_tokens=9, structured_outputs={"regex": "[a-f]{20}"})
PROMPTS = prompts_of([9, 14, 5])


class Interrupted(BaseException):
    """Like KeyboardInterrupt: nobody catches it by name."""


class RaiseAtLine:
    """Raises `Interrupted` when the n-th line of the engine and the worker is about to run."""

    def __init__(self, line):
        self.left = line
        self.where = None

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, kind, error, traceback):
        sys.settrace(self.before)
        return kind is Interrupted

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename.startswith(FOLDERS) else None

    def _line(self, frame, event, argument):
        if event == "line" and self.where is None:
            self.left -= 1
            if self.left < 0:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                raise Interrupted(self.where)
        return self._line


@pytest.fixture(scope="module", params=[False, True], ids=["one by one", "overlapped"])
def llm(request, chat_model):
    # Two of three sequences fit in the cache: one is preempted on the way.
    return LLM(
        str(chat_model.folder),
        num_kv_blocks=9,
        block_size=4,
        max_model_len=36,
        max_num_seqs=2,
        max_num_batched_tokens=8,
        async_scheduling=request.param,
    )


@pytest.fixture(scope="module")
def expected(llm):
    return tokens_of(llm)


def tokens_of(llm):
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, GREEDY)]


def fill(engine):
    """Requests at every stage: in the middle of generating, at the end of a prompt, waiting."""
    engine.add_request("busy", PROMPTS[0], BUSY)
    engine.add_request("long", PROMPTS[1], dataclasses.replace(GREEDY, stop=["zzz"]))
    engine.add_request("waiting", PROMPTS[2], GREEDY)


def assert_sound(engine):
    """Nothing is half changed."""
    manager = engine.scheduler.block_manager
    held = [block for seq in engine.scheduler.running for block in seq.block_table]
    assert manager.num_free_blocks == manager.num_blocks - len(set(held))
    sequences = {
        seq.seq_id
        for queue in (engine.scheduler.running, engine.scheduler.waiting)
        for seq in queue
    }
    unfinished = {
        seq.seq_id
        for request in engine._requests.values()
        for seq in request.seqs
        if seq.finish_reason is None
    }
    assert sequences == unfinished <= set(engine._owners)
    assert engine.has_unfinished_requests() == bool(sequences)


def interrupt_everywhere(llm, expected, act, prepare):
    """Runs `act` with an exception at its first line, its second, and so on to its end."""
    engine, line, places = llm.engine, 0, set()
    while True:
        prepare(engine)
        with RaiseAtLine(line) as raised:
            act(engine)
        assert_sound(engine)
        if raised.where is None:
            engine.drop_all()
            return places
        places.add(raised.where)
        if engine.has_unfinished_requests():  # it came before anything had begun
            assert line < 10, raised.where
        engine.drop_all()
        assert not engine.has_unfinished_requests()
        if line % 50 == 0:
            assert tokens_of(llm) == expected, raised.where
        line += 1


@pytest.mark.parametrize("steps_before", [0, 2, 5])
def test_an_exception_at_every_line_of_a_step(llm, expected, steps_before):
    def prepare(engine):
        engine.drop_all()
        fill(engine)
        for _ in range(steps_before):
            engine.step()

    places = interrupt_everywhere(llm, expected, lambda engine: engine.step(), prepare)
    files = {Path(place.rpartition(":")[0]).name for place in places}
    assert {"llm_engine.py", "scheduler.py", "describe.py", "local.py"} <= files
    assert {"masks.py", "model_runner.py"} <= files
    assert tokens_of(llm) == expected


def test_an_exception_at_every_line_while_masks_are_made(llm, expected):
    pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")

    def held():
        llm.engine.drop_all()
        return llm.generate(PROMPTS[0], HELD)[0].outputs[0].token_ids

    def prepare(engine):
        engine.drop_all()
        engine.add_request("held", PROMPTS[0], HELD)
        engine.add_request("free", PROMPTS[2], GREEDY)
        for _ in range(3):
            engine.step()

    before = held()
    places = interrupt_everywhere(llm, expected, lambda engine: engine.step(), prepare)
    files = {Path(place.rpartition(":")[0]).name for place in places}
    assert {"llm_engine.py", "scheduler.py", "describe.py", "masks.py", "grammars.py"} <= files
    assert held() == before


def test_an_exception_at_every_line_of_adding_and_aborting(llm, expected):
    def prepare(engine):
        engine.drop_all()
        engine.add_request("first", PROMPTS[0], GREEDY)
        engine.step()

    def act(engine):
        engine.add_request("several", PROMPTS[1], SamplingParams(n=3, seed=1, max_tokens=2))
        engine.abort_request("first")

    places = interrupt_everywhere_loosely(llm, act, prepare)
    assert any("scheduler.py" in place for place in places)
    assert tokens_of(llm) == expected


def interrupt_everywhere_loosely(llm, act, prepare):
    """As above, where requests may be left: those that the act had not begun with, or had done."""
    engine, line, places = llm.engine, 0, set()
    while True:
        prepare(engine)
        with RaiseAtLine(line) as raised:
            act(engine)
        assert_sound(engine)
        while engine.has_unfinished_requests():
            engine.step()
        assert_sound(engine)
        if raised.where is None:
            return places
        places.add(raised.where)
        line += 1


def test_a_second_exception_while_the_first_is_dealt_with(llm, expected, monkeypatch):
    engine = llm.engine
    engine.drop_all()
    fill(engine)
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(engine.executor, "submit", lambda step: 1 / 0)
        patch.setattr(engine.scheduler, "reset", lambda: [][0])
        with pytest.raises(IndexError):
            engine.step()
    assert tokens_of(llm) == expected
    assert_sound(engine)


def test_a_stream_whose_output_was_lost_does_not_wait(llm, expected, monkeypatch):
    stream = llm.stream(PROMPTS[0], GREEDY)
    next(stream)

    class Lost(dict):
        def __getitem__(self, key):
            raise Interrupted(key)

    with monkeypatch.context() as patch:
        patch.setattr(llm, "_unread", Lost(llm._unread))
        with pytest.raises(Interrupted):
            llm.generate(PROMPTS[1], GREEDY)
    with pytest.raises(RuntimeError, match="another call made has failed"):
        list(stream)
    assert tokens_of(llm) == expected
