"""Small copies between host and GPU by a kernel, without the copy engine."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from vllm import ops  # noqa: E402


@pytest.mark.parametrize("count", [0, 1, 255, 256, 10_000])
def test_there_and_back(count):
    host = torch.arange(count + 2).mul(1 << 40).pin_memory()
    device = torch.zeros(count + 2, dtype=torch.int64, device="cuda")
    back = torch.full((count + 2,), -1).pin_memory()
    ops.copy_pinned(device[1 : count + 1], host[1 : count + 1])
    ops.copy_pinned(back[1 : count + 1], device[1 : count + 1])
    torch.cuda.synchronize()
    assert back[1 : count + 1].equal(host[1 : count + 1])
    assert device[0] == device[-1] == 0
    assert back[0] == back[-1] == -1


def test_in_the_order_of_the_stream():
    """Each comes after the kernels before it, and before those after it."""
    host, back = torch.zeros(8, dtype=torch.int64).pin_memory(), []
    device = torch.zeros(8, dtype=torch.int64, device="cuda")
    for step in range(200):
        torch.cuda.synchronize()
        host.fill_(step)
        ops.copy_pinned(device, host)
        device.add_(1)
        back.append(torch.empty(8, dtype=torch.int64, pin_memory=True))
        ops.copy_pinned(back[-1], device)
        device.zero_()
    torch.cuda.synchronize()
    assert [each.tolist() for each in back] == [[step + 1] * 8 for step in range(200)]


def test_what_is_refused():
    device = torch.zeros(4, dtype=torch.int64, device="cuda")
    for out, values, message in (
        (device, torch.zeros(4, dtype=torch.int64), "'input' is not pinned; it takes pinned"),
        (torch.zeros(4, dtype=torch.int64), device, "'out' is not pinned; it takes pinned"),
        (device, device.clone(), "is on the wrong device; it takes one tensor on a GPU and one on"),
        (device, torch.zeros(3, dtype=torch.int64).pin_memory(), "'out' has shape (4,); it takes"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ops.copy_pinned(out, values)
