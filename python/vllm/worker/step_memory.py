"""Where a device has the input of its step, and the tokens that it sampled last."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import torch

from vllm import ops
from vllm.engine.step_input import SizeClass, StepLayout
from vllm.worker.graphs import Graphs
from vllm.worker.step_tensors import StepTensors

# Up to this many bytes a copy kernel is faster than the copy engine, which waits for the kernels
# before it and which the kernels after it wait for.
_FEW_BYTES = 1 << 18


class StepMemory:
    """One device buffer: the tokens that the last step sampled, followed by the step's input, which
    begins with its token ids. So one index finds a token id, whether the host knows it or not; see
    `StepInput.sources`.

    max_rows: the most tokens that a step samples.
    graphs: are deleted when the buffer is replaced by a larger one, which they do not use.
    """

    def __init__(self, max_rows: int, device: torch.device, graphs: Optional[Graphs]) -> None:
        self.max_rows = max_rows
        self._device = device
        self._graphs = graphs
        self._memory = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._start = self._memory.nbytes  # of the step's input
        self._views: Dict[Tuple[int, SizeClass], StepTensors] = {}  # by address and class

    def send(self, layout: StepLayout, memory: torch.Tensor) -> StepTensors:
        """Copies a step to the device, in one copy. memory: uint8, that of the step."""
        start = self._start
        if not self.holds(memory):
            larger = torch.zeros(
                (start + len(memory)) // self._memory.element_size(),
                dtype=torch.int64,
                device=self._device,
            )
            larger[: self.max_rows] = self.last_tokens(self.max_rows)
            self._memory = larger
            self._views.clear()
            if self._graphs is not None:
                self._graphs.clear()
        described = self._memory.view(torch.uint8)[start : start + layout.nbytes]
        copy_numbers(described.view(torch.int64), memory[: layout.nbytes].view(torch.int64))
        return self.views_of(described, layout)

    def holds(self, memory: torch.Tensor) -> bool:
        """Whether `send` only copies, and allocates nothing."""
        return self._memory.nbytes >= self._start + len(memory)

    def views_of(self, memory: torch.Tensor, layout: StepLayout) -> StepTensors:
        """The arrays of a step in memory, on the host or on the device."""
        key = (memory.data_ptr(), layout.size)
        views = self._views.get(key)
        if views is None:
            views = self._views[key] = StepTensors(layout, memory)
        return views

    def token_ids(self, tensors: StepTensors, num_tokens: int) -> torch.Tensor:
        """int64 [tokens]. tensors: of the step that was sent last."""
        return self._memory.index_select(0, tensors.sources(num_tokens))

    def last_tokens(self, num_rows: int) -> torch.Tensor:
        """int64 [rows], those that the last step sampled."""
        return self._memory[:num_rows]


def copy_numbers(out: torch.Tensor, values: torch.Tensor) -> None:
    """Copies int64 values between host and device, asynchronously: host memory is pinned. On the
    CPU both are there."""
    if (out.is_cuda or values.is_cuda) and values.nbytes <= _FEW_BYTES:
        ops.copy_pinned(out, values)
    else:
        out.copy_(values, non_blocking=True)
