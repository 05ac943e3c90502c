"""Of ranks whose devices compute beside them, who is late is found by the steps it has launched."""

from __future__ import annotations

import threading

import pytest
from torch.distributed import HashStore

from vllm.errors import RankError
from vllm.worker.ranks import watch as module
from vllm.worker.ranks.meeting import Meeting
from vllm.worker.ranks.watch import Progress, Watch


@pytest.fixture
def ranks(monkeypatch):
    """Watches of two ranks with their progress, and a queue of what has failed."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    store, failed = HashStore(), threading.Event()
    made = []
    for rank in range(2):
        meeting = Meeting(store, rank, 2, address="127.0.0.1")
        watch, progress = Watch(meeting, lambda text: failed.set()), Progress()
        watch.follow(progress)
        made.append((watch, progress))
    yield made, failed
    for watch, _ in made:
        watch.stop()


def test_a_rank_that_launches_no_step_that_others_wait_for_stalls(ranks):
    (watches, progresses), failed = zip(*ranks[0]), ranks[1]
    progresses[0].entered, progresses[1].entered = 3, 2
    with progresses[0].wait():
        assert failed.wait(30)
    with pytest.raises(RankError, match=r"rank 1 stalls: others have waited .* its exchange 3"):
        watches[0].check()


def test_nobody_is_late_while_nobody_waits(ranks):
    (_, progresses), failed = zip(*ranks[0]), ranks[1]
    progresses[0].entered, progresses[1].entered = 3, 2
    assert not failed.wait(1)
    progresses[1].entered = 3
    with progresses[0].wait(), progresses[1].wait():  # for their devices
        assert not failed.wait(1)


def test_threads_of_a_rank_wait_at_the_same_time():
    progress, go_on = Progress(), threading.Event()

    def wait():
        with progress.wait():
            go_on.wait(30)

    other = threading.Thread(target=wait)
    with progress.wait():
        other.start()
    while not progress.waiting:  # the other one may not have begun
        pass
    go_on.set()
    other.join()
    assert not progress.waiting
