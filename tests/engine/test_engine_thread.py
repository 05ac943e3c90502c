"""The engine's thread around an engine of a few lines: who is told what, and when."""

from __future__ import annotations

import logging
import queue
from types import SimpleNamespace

import pytest

from vllm.engine.engine_thread import EngineClosedError, EngineThread
from vllm.errors import RankError


class Engine:
    """Its steps return, or raise, what the test puts into `steps`."""

    def __init__(self):
        self.running = {}
        self.steps = queue.Queue()
        self.aborted = []
        self.abort_fails = False

    def add(self, request):
        if request.request_id == "refused":
            raise ValueError("refused")
        if request.request_id == "defect":
            raise RuntimeError("a defect")
        self.running[request.request_id] = request

    def abort_request(self, request_id):
        self.aborted.append(request_id)
        if not self.abort_fails and self.running.pop(request_id, None):
            return output_of(request_id, finished=True)
        return None

    def has_unfinished_requests(self):
        return bool(self.running)

    def step(self):
        found = self.steps.get(timeout=60)
        if isinstance(found, Exception):
            raise found
        for output in found:
            if output.finished:
                del self.running[output.request_id]
        return found


def output_of(request_id, *, finished=False):
    return SimpleNamespace(request_id=request_id, finished=finished)


class Reader:
    """readable: what it answers. fails: the delivery at which it raises, counted from 0."""

    def __init__(self, *, readable=True, fails=None):
        self.got = queue.Queue()
        self.readable = readable
        self.fails = fails
        self.count = 0

    def __call__(self, output):
        self.count += 1
        if self.count - 1 == self.fails:
            raise RuntimeError("this reader is broken")
        self.got.put(output)
        return self.readable

    def next(self):
        return self.got.get(timeout=60)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def batches():
    return queue.Queue()


@pytest.fixture
def thread(engine, batches):
    thread = EngineThread(engine, lambda: batches.put(len(engine.running)))
    yield thread
    engine.steps.put([])  # it may be in a step
    thread.close()


def add(thread, request_id, **how):
    reader = Reader(**how)
    thread.add(SimpleNamespace(request_id=request_id), reader)
    return reader


def add_all(thread, *request_ids):
    readers = [Reader() for _ in request_ids]
    thread.add_all([(SimpleNamespace(request_id=i), r) for i, r in zip(request_ids, readers)])
    return readers


def settle(thread):
    """Returns when the thread has done all that was queued, and no step is under way."""
    assert add(thread, "refused").next().args == ("refused",)


def test_a_refused_request_is_told_and_forgotten(engine, thread):
    reader = add(thread, "refused")
    assert isinstance(reader.next(), ValueError)
    thread.close()
    assert reader.count == 1
    assert engine.aborted == []


def test_requests_that_come_together_are_in_the_next_step(engine, thread):
    one, refused, two = add_all(thread, "one", "refused", "two")
    assert isinstance(refused.next(), ValueError)
    engine.steps.put([output_of("one", finished=True), output_of("two", finished=True)])
    assert one.next().finished
    assert two.next().finished
    thread.close()
    assert (one.count, refused.count, two.count) == (1, 1, 1)


def test_a_defect_in_one_of_several_is_told_to_all(thread):
    for reader in add_all(thread, "one", "defect", "two"):
        assert str(reader.next()) == "the engine has failed with RuntimeError: a defect"
    thread.ended.result(60)


def test_outputs_go_to_their_readers_until_the_last(engine, thread):
    one, two = add(thread, "one"), add(thread, "two")
    engine.steps.put([output_of("one"), output_of("two")])
    engine.steps.put([output_of("one", finished=True)])
    assert [one.next().finished, one.next().finished] == [False, True]
    assert two.next().request_id == "two"
    engine.steps.put([output_of("two", finished=True)])
    assert two.next().finished
    thread.close()
    assert (one.count, two.count) == (2, 2)
    assert engine.aborted == []


def test_an_abort_is_told_once(engine, thread):
    reader = add(thread, "one")
    thread.abort("one")
    engine.steps.put([])  # it may be in one already
    assert reader.next().finished
    thread.abort("one")
    thread.abort("nobody's")
    settle(thread)
    thread.close()
    assert reader.count == 1
    assert engine.aborted == ["one", "one", "nobody's"]


def test_a_request_whose_reader_has_gone_is_aborted(engine, thread):
    gone = add(thread, "gone", readable=False)
    engine.steps.put([output_of("gone")])
    gone.next()
    settle(thread)
    thread.close()
    assert engine.aborted == ["gone"]  # and not again at the end
    assert gone.count == 1


def test_a_failed_step_is_told_to_all_and_the_engine_goes_on(engine, thread):
    readers = [add(thread, name) for name in ("one", "two")]
    error = RuntimeError("a defect")
    engine.steps.put([])
    settle_running(engine, readers)
    engine.steps.put(error)
    assert [reader.next() for reader in readers] == [error, error]
    settle(thread)
    assert sorted(engine.aborted) == ["one", "two"]
    assert thread.cause is None
    later = add(thread, "three")
    engine.steps.put([output_of("three", finished=True)])
    assert later.next().finished
    assert [reader.count for reader in readers] == [1, 1]


def settle_running(engine, readers):
    """Returns when all of them are in the engine."""
    while len(engine.running) < len(readers):
        engine.steps.put([])


@pytest.mark.parametrize("ends", [RankError("a rank has died"), RuntimeError("a defect")], ids=repr)
def test_what_ends_the_engine_after_a_failed_step(engine, thread, ends):
    """A rank that is gone, or requests that cannot be removed: the next step would fail, too."""
    engine.abort_fails = not isinstance(ends, RankError)
    reader = add(thread, "one")
    engine.steps.put(ends)
    assert reader.next() is ends
    thread.ended.result(60)
    assert thread.cause is ends
    with pytest.raises(EngineClosedError, match="the engine has failed with") as caught:
        add(thread, "two")
    assert caught.value.__cause__ is ends
    thread.abort("one")  # says nothing
    assert reader.count == 1


def test_at_the_end_everybody_is_told_though_a_reader_is_broken(engine, thread, caplog):
    broken, other = add(thread, "broken", fails=0), add(thread, "other")
    settle_running(engine, [broken, other])
    with caplog.at_level(logging.ERROR):
        engine.steps.put([])
        thread.close()
        thread.close()
    assert str(other.next()) == "the engine has been shut down"
    assert "a request could not be notified that the engine has ended" in caplog.text
    assert sorted(engine.aborted) == ["broken", "other"]
    assert not engine.running
    assert thread.cause is None
    assert thread.ended.done()


def test_after_each_batch_it_is_said(engine, thread, batches):
    one = add(thread, "one")
    assert batches.get(timeout=60) == 1  # the call that added it
    engine.steps.put([output_of("one")])
    assert batches.get(timeout=60) == 1
    engine.steps.put(RuntimeError("a defect"))
    assert batches.get(timeout=60) == 0
    assert [type(one.next()), type(one.next())] == [SimpleNamespace, RuntimeError]
    thread.close()
    assert [batches.get(timeout=60), batches.get(timeout=60)] == [0, 0]  # to close, and at the end
    assert batches.empty()
