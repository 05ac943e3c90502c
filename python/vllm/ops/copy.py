"""What a GPU and its host exchange: small copies, and a sign that the GPU waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def copy_pinned(out: Tensor, input: Tensor) -> None:
    """Copies a few numbers to or from a GPU with a kernel on its current stream. That is faster
    than the copy engine, which waits for the kernels before it and delays those after it.

    out, input: int64 [count], one on a GPU and the other in pinned host memory. ValueError if that
        is not pinned.
    """
    _C.copy_pinned(out, input)


def wait_for_host(gate: Tensor, due: Tensor, nanoseconds: int) -> None:
    """Makes the current stream of a GPU wait until gate[0] >= due[0]; see `tell_device`. Everything
    that is launched behind it sees what the host wrote before.

    gate: int64 [2] in pinned memory.
    due: int64 [1] on the GPU.
    nanoseconds: the most that it waits, so that nothing waits for ever. Then it writes due[0] to
        gate[1], and the stream goes on.

    While it waits, the host must call nothing that waits for the device, as an allocation may.
    """
    _C.wait_for_host(gate, due, nanoseconds)


def tell_device(gate: Tensor, value: int) -> None:
    """gate[0] = value, an int64, for `wait_for_host`: who sees it sees what was written before."""
    _C.tell_device(gate, value)
