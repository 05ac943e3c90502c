"""Where the device waits for the masks of a step."""

from __future__ import annotations

import torch

from vllm import ops

# The longest that the device waits. Masks take milliseconds; this ends the waiting where nobody is
# left who would make them, or where the process has been stopped meanwhile.
MOST_SECONDS = 60.0


class LateMasksError(RuntimeError):
    """The device has gone on without the masks of a step."""


class MaskGate:
    """Two numbers in pinned memory: of the newest masks that are there, which the host writes, and
    of the newest that came too late, which the device writes.

    Numbers only grow. So a gate that is opened before anybody waits at it stays open.

    Between `wait` and `open`, the thread that calls `wait` may copy, and launch what it has
    launched before, and nothing else: an allocation or the loading of a kernel may wait for the
    device.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._numbers = torch.zeros(2, dtype=torch.int64, device="cpu", pin_memory=self._is_cuda)
        self._newest = 0

    def wait(self, due: torch.Tensor) -> None:
        """Launches the waiting. due: int64 [1], the number of the masks, on the device. A CPU is
        told to sample only when they are there."""
        if self._is_cuda:
            ops.wait_for_host(self._numbers, due, int(MOST_SECONDS * 1e9))

    def expect(self, number: int) -> None:
        """Call it before what waits for that number is launched."""
        self._newest = number

    def open(self, number: int) -> None:
        """Lets those pass who wait for masks up to this one. Any thread may call it."""
        ops.tell_device(self._numbers, number)

    def open_for_all(self) -> None:
        """Lets pass whatever has been launched."""
        self.open(self._newest)

    def check(self, number: int) -> None:
        """Raises LateMasksError if the device went on before the masks of this step were there."""
        if number <= self._numbers[1]:
            raise LateMasksError(
                f"the GPU has waited {MOST_SECONDS:g} seconds for the masks of a step and has gone "
                "on without them, so its tokens mean nothing. The process was stopped for longer, "
                "or a grammar takes longer than that; the requests can be sent again"
            )
