"""A stream that waits until the host says that something is there."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from vllm import ops  # noqa: E402

LONG = 60_000_000_000  # nanoseconds


@pytest.fixture
def gate():
    return torch.zeros(2, dtype=torch.int64).pin_memory()


@pytest.fixture
def data():
    return torch.zeros(1 << 17, dtype=torch.int64).pin_memory()


def due(number):
    return torch.tensor([number], device="cuda")


def is_done():
    """Whether all that has been launched is done."""
    event = torch.cuda.Event()
    event.record()
    return event.query()


def load(gate, data):
    """Device code is loaded at first use, which must not come while the device waits."""
    ops.wait_for_host(gate, due(0), LONG)
    seen = torch.empty_like(data, device="cuda")
    ops.copy_pinned(seen, data)
    torch.cuda.synchronize()
    return seen


def test_what_is_launched_behind_sees_what_the_host_wrote(gate, data):
    seen = load(gate, data)
    for number in range(1, 200):
        wanted = due(number)
        torch.cuda.synchronize()
        ops.wait_for_host(gate, wanted, LONG)
        ops.copy_pinned(seen, data)
        event = torch.cuda.Event()
        event.record()
        assert not event.query()
        data.fill_(number)
        assert not event.query()
        ops.tell_device(gate, number)
        event.synchronize()
        assert bool((seen == number).all())
    assert gate.tolist() == [199, 0]


def test_a_graph_waits_for_another_number_at_each_replay(gate, data):
    seen, wanted = load(gate, data), due(0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        ops.wait_for_host(gate, wanted, LONG)
        ops.copy_pinned(seen, data)
    graph.replay()
    torch.cuda.synchronize()
    numbers = [torch.tensor([number]).pin_memory() for number in range(1, 50)]
    for number, pinned in enumerate(numbers, start=1):
        ops.copy_pinned(wanted, pinned)
        graph.replay()
        event = torch.cuda.Event()
        event.record()
        data.fill_(-number)
        assert not event.query()
        ops.tell_device(gate, number)
        event.synchronize()
        assert bool((seen == -number).all())


def test_who_comes_late_does_not_wait(gate, data):
    load(gate, data)
    ops.tell_device(gate, 7)
    for number in (5, 7):
        ops.wait_for_host(gate, due(number), LONG)
    torch.cuda.synchronize()
    assert gate.tolist() == [7, 0]


def test_nobody_waits_for_ever(gate, data):
    load(gate, data)
    ops.wait_for_host(gate, due(3), 1_000_000)
    torch.cuda.synchronize()
    assert gate.tolist() == [0, 3]
    ops.tell_device(gate, 4)
    ops.wait_for_host(gate, due(4), LONG)
    torch.cuda.synchronize()
    assert gate.tolist() == [4, 3]


def test_what_is_refused(gate):
    for name, args in (
        ("'gate' is not pinned; it takes pinned", (torch.zeros(2, dtype=torch.int64), due(1))),
        ("'gate' has shape (3,)", (torch.zeros(3, dtype=torch.int64).pin_memory(), due(1))),
        ("'gate' is on a GPU; it takes memory of the host", (due(1).repeat(2), due(1))),
        ("'due' is on the CPU; it takes a tensor on a GPU", (gate, gate[:1])),
        ("'due' has shape (2,)", (gate, due(1).repeat(2))),
    ):
        with pytest.raises(ValueError, match=re.escape(name)):
            ops.wait_for_host(*args, LONG)
