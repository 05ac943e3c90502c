"""A copy of a step's masks on the device, made while the last layer is computed."""

from __future__ import annotations

import contextlib
from typing import Hashable, Iterator, Tuple

import torch

from vllm import ops
from vllm.engine.masks import StepMasks
from vllm.worker.graphs import padded
from vllm.worker.mask_gate import MaskGate


class EarlyMasks:
    """Masks are mostly there before the logits are. Reading them from the host's memory takes as
    long as a layer does; so the copy engine sends what is there while the logits are computed.

    It waits for nothing. First it copies the number of the newest masks, then all masks, complete
    or not: if that number was the step's, they were complete. If not, the host's memory is read
    behind the gate.
    """

    def __init__(self, device: torch.device, gate: MaskGate) -> None:
        self._gate = gate
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._arrived = torch.zeros(1, dtype=torch.int64, device=device)
        self._sent = torch.empty(0, dtype=torch.int64, device=device)
        if self._is_cuda:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def kind(self, masks: StepMasks, memory: torch.Tensor) -> Tuple[Hashable, ...]:
        """What a graph depends on. memory: uint8, that of the masks."""
        return (padded(masks.most), masks.places, memory.data_ptr())

    def make_room(self, memory: torch.Tensor) -> None:
        """Call it before a graph of masks in this memory, of which it is a part."""
        if self._is_cuda and self._sent.nbytes < len(memory):
            self._sent = torch.empty(len(memory) // 8, dtype=torch.int64, device=self._device)

    @contextlib.contextmanager
    def sending(self, masks: StepMasks, memory: torch.Tensor) -> Iterator[None]:
        """Launches the copy beside what is launched within."""
        if not self._is_cuda:
            yield
            return
        count = (masks.bits_offset + 4 * masks.num_words * padded(masks.most) + 7) // 8
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            ops.send_pinned(self._arrived, self._gate.newest)
            ops.send_pinned(self._sent[:count], memory.view(torch.int64)[:count])
        yield
        current.wait_stream(self._stream)

    def apply(
        self, logits: torch.Tensor, masks: StepMasks, memory: torch.Tensor, due: torch.Tensor
    ) -> None:
        """Makes tokens that may not be drawn impossible, in place. due: the masks' number, int64
        [1], on the device."""
        count = padded(masks.most)
        found = views(masks, memory, count)
        if self._is_cuda:
            sent = views(masks, self._sent.view(torch.uint8), count)
            ops.mask_logits_sent(logits, *found, *sent, self._arrived, due)
        else:
            ops.mask_logits(logits, *found)


def views(masks: StepMasks, memory: torch.Tensor, count: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """The rows, int64 [count], and the bits, int32 [count, words], of the first masks in a
    buffer."""
    rows = memory[: 8 * count].view(torch.int64)
    bits = memory[masks.bits_offset :][: 4 * masks.num_words * count].view(torch.int32)
    return rows, bits.view(count, masks.num_words)
