"""A device that waits for masks: whatever happens before they are there, it does not wait for ever.

The device is a thread that really waits. An exception comes at each line that the engine runs, as
Ctrl-C may.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from tests.engine.test_faults import RaiseAtLine, assert_sound
from tests.engine.test_overlap import add_broken, alone, make_engine, run, watch
from vllm.sampling_params import SamplingParams
from vllm.text import grammars

llguidance = pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")

FREE = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
HELD = dataclasses.replace(FREE, structured_outputs={"regex": "([abc]d|e)*"})
LISTED = dataclasses.replace(FREE, allowed_token_ids=[1, 2, 4])


def add_all(engine):
    for name, params in (("held", HELD), ("free", FREE), ("listed", LISTED)):
        engine.add_request(name, [0, 1], params)


@pytest.fixture(scope="module")
def expected():
    return {
        name: alone([0, 1], params)[0][0][1]
        for name, params in (("held", HELD), ("free", FREE), ("listed", LISTED))
    }


def tokens_of(engine):
    """Of an engine that is made empty first."""
    engine.drop_all()
    add_all(engine)
    return {name: output.outputs[0].token_ids for name, output in run(engine).items()}


@pytest.fixture
def engine():
    return make_engine(30, overlap=True, stream=True)


def test_the_next_step_is_launched_before_the_masks_are_there(engine, expected, monkeypatch):
    """The device's order: a step's logits, its masks, its tokens, the next step's logits."""
    calls, launched = [], threading.Event()
    real = llguidance.LLExecutor(1)

    class Late:
        def unsafe_compute_mask_ptr(self, *args):
            assert launched.wait(60), "nobody launches a step meanwhile"
            real.unsafe_compute_mask_ptr(*args)
            calls.append("masks")

    monkeypatch.setattr(grammars, "_executor", Late)
    executor = engine.executor
    watch(monkeypatch, executor, "launch_ahead", calls, launched.set)
    watch(monkeypatch, executor, "masks_are_ready", calls)
    watch(monkeypatch, executor, "collect", calls, launched.clear)
    engine.add_request("held", [0, 1], dataclasses.replace(HELD, max_tokens=3))
    step = "launch_ahead masks masks_are_ready collect"
    with monkeypatch.context() as patch:
        # Behind the last step there is none: its masks wait for nobody.
        watch(patch, engine.scheduler, "finish", calls)
        schedule = engine.scheduler.schedule

        def scheduled():
            chunks = schedule()
            if not chunks:
                launched.set()
            return chunks

        patch.setattr(engine.scheduler, "schedule", scheduled)
        run(engine)
    assert calls == f"{step} {step} masks masks_are_ready collect".split()


def test_the_tokens_are_those_of_each_request_alone(engine, expected):
    assert tokens_of(engine) == expected
    assert engine.executor.ahead > 5


@pytest.mark.parametrize("steps_before", [0, 1, 4])
def test_an_exception_at_every_line(engine, expected, steps_before):
    line, places = 0, set()
    while True:
        engine.drop_all()
        add_all(engine)
        for _ in range(steps_before):
            engine.step()
        with RaiseAtLine(line) as raised:
            engine.step()
        assert_sound(engine)
        if raised.where is None:
            break
        places.add(Path(raised.where.rpartition(":")[0]).name)
        if line % 10 == 0:
            assert tokens_of(engine) == expected, raised.where
        line += 1
    assert {"pipeline.py", "masks.py", "grammars.py", "scheduler.py", "describe.py"} <= places
    engine.drop_all()
    assert tokens_of(engine) == expected


def test_an_exception_in_the_thread_that_makes_masks(engine, expected, monkeypatch):
    class Broken:
        def unsafe_compute_mask_ptr(self, *args):
            raise ValueError("no masks")

    add_all(engine)
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(grammars, "_executor", Broken)
        with pytest.raises(ValueError, match="no masks"):
            engine.step()
    assert not engine.has_unfinished_requests
    assert not engine.has_unfinished_requests
    assert tokens_of(engine) == expected


def test_an_abort_while_the_device_is_ahead(engine, expected):
    for steps in range(5):
        add_all(engine)
        for _ in range(steps):
            engine.step()
        engine.abort_request("held")
        outputs = run(engine)
        for name in ("free", "listed"):
            assert outputs[name].outputs[0].token_ids == expected[name]


def test_a_grammar_that_fails_in_a_mask(engine, expected):
    """The step behind has been launched with its row, which is computed in vain."""
    add_all(engine)
    add_broken(engine, "broken", dataclasses.replace(HELD, structured_outputs={"regex": "[ab]+"}))
    last = {output.request_id: output.outputs[0] for output in engine.step()}
    assert engine.executor.ahead == 2
    assert (last["broken"].finish_reason, last["broken"].token_ids) == ("error", [])
    assert {name: out.outputs[0].token_ids for name, out in run(engine).items()} == expected


def test_the_device_waits_however_late_the_masks_are(engine, expected, monkeypatch):
    real = llguidance.LLExecutor(1)

    class Slow:
        def unsafe_compute_mask_ptr(self, *args):
            time.sleep(0.02)
            real.unsafe_compute_mask_ptr(*args)

    monkeypatch.setattr(grammars, "_executor", Slow)
    assert tokens_of(engine) == expected
