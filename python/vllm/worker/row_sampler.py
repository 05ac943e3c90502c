"""From a step's logits to its tokens, on the device and then on the host."""

from __future__ import annotations

from typing import Callable, Hashable, Optional, Tuple

import torch

from vllm import ops
from vllm.engine.masks import StepMasks
from vllm.layers.sampler import SamplingTensors, TokenCounters, change_logits, sample
from vllm.parallel.group import Group
from vllm.worker.graphs import Graphs, padded
from vllm.worker.mask_gate import MaskGate
from vllm.worker.results import PendingLogprobs, PendingResult, Unsampled
from vllm.worker.step_memory import StepMemory, copy_numbers


class RowSampler:
    """Draws tokens into the memory that the next step reads; rank 0 does.

    dtype: of the logits.
    share_tokens: broadcast what it draws.
    """

    def __init__(
        self,
        group: Group,
        memory: StepMemory,
        device: torch.device,
        *,
        max_num_seqs: int,
        vocab_size: int,
        dtype: torch.dtype,
        share_tokens: bool,
    ) -> None:
        self._group = group
        self._memory = memory
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._vocab_size = vocab_size
        self._dtype = dtype
        self._shares_tokens = share_tokens
        self._counters: Optional[TokenCounters] = None
        if group.rank == 0:
            self._counters = TokenCounters.make(max_num_seqs, vocab_size, device)
        self._logits: Optional[torch.Tensor] = None  # [max_rows, vocab], allocated on first use
        # Double-buffered: the tokens of the previous step may not have been collected yet.
        shape = (2, memory.max_rows)
        self._results = torch.empty(shape, dtype=torch.int64, device="cpu", pin_memory=self._on_gpu)
        self._turn = 0
        self.gate = MaskGate(device)

    def kept(self, num_rows: int) -> torch.Tensor:
        """Memory for logits that a graph ends with, [rows, vocab], to be masked after the replay.
        It does not belong to a graph."""
        if self._logits is None:
            shape = (self._memory.max_rows, self._vocab_size)
            self._logits = torch.empty(shape, dtype=self._dtype, device=self._device)
        return self._logits[:num_rows]

    def draw(
        self,
        logits: Optional[torch.Tensor],
        how: SamplingTensors,
        inputs: Callable[[], torch.Tensor],
        num_rows: int,
    ) -> torch.Tensor:
        """Samples a token for each row, int64 [rows], which all ranks get.

        logits: None on ranks that do not sample.
        inputs: returns the input token of each row, int64 [rows]; called if that changes logits.
        """
        tokens = self._memory.last_tokens(num_rows)
        if logits is not None:
            assert self._counters is not None
            if how.penalties is not None or how.changes is not None:
                logits = change_logits(logits, how, inputs(), self._counters)
            sample(logits, how, tokens)
        if self._shares_tokens:
            self._group.broadcast(tokens)
        return tokens

    def finish(
        self,
        num_rows: int,
        rows: Optional[Unsampled],
        result: PendingResult,
        masks: Optional[torch.Tensor] = None,
        graphs: Optional[Graphs] = None,
    ) -> None:
        """Samples what a graph has not, and brings the tokens back.

        num_rows: of the step, without padding.
        masks: uint8, their memory, filled; unless `waits`, when the device waits for them.
        """
        if rows is not None and rows.kind is not None and graphs is not None and masks is not None:
            self._sample_in_graph(graphs, rows.kind, rows, masks)
        elif rows is not None:
            self._sample(rows, result, masks)
        if num_rows:
            self._turn = 1 - self._turn
            result.tokens = self._results[self._turn, :num_rows]
            copy_numbers(result.tokens, self._memory.last_tokens(num_rows))
        if self._on_gpu:
            result.mark_end()

    def waits(self, graphs: Optional[Graphs], rows: Unsampled, masks: torch.Tensor) -> bool:
        """Whether `finish` would replay a graph that waits for the masks, and allocate nothing."""
        step_masks = rows.step.masks
        if not self._on_gpu or graphs is None or rows.kind is None or step_masks is None:
            return False
        return graphs.has(_masked_kind(rows.kind, step_masks, masks))

    def _sample_in_graph(
        self, graphs: Graphs, kind: Tuple[Hashable, ...], rows: Unsampled, memory: torch.Tensor
    ) -> None:
        """A graph that begins with waiting for the masks."""
        masks, logits = rows.step.masks, rows.logits
        assert masks is not None
        assert logits is not None
        count = padded(masks.most)

        def compute() -> None:
            self.gate.wait(rows.due)
            _mask_logits(logits, masks, memory, count)
            self.draw(logits, rows.how, rows.inputs, rows.num_rows)

        self.gate.expect(masks.number)
        graphs.run(_masked_kind(kind, masks, memory), compute)

    def _sample(
        self, rows: Unsampled, result: PendingResult, masks: Optional[torch.Tensor]
    ) -> None:
        step, logits, how = rows.step, rows.logits, rows.how
        told = [row for row, _ in step.logprobs]
        raw = None
        if logits is not None:
            raw = logits[told] if told else None  # a copy: the logits may be changed in place
            if step.masks is not None and masks is not None:
                _mask_logits(logits, step.masks, masks, len(step.masks.rows))
        tokens = self.draw(logits, how, rows.inputs, rows.num_rows)
        if raw is not None:
            result.logprob_rows = told
            wanted = [num_best for _, num_best in step.logprobs]
            result.logprobs = PendingLogprobs.of(raw, tokens[told], wanted)


def _masked_kind(
    kind: Tuple[Hashable, ...], masks: StepMasks, memory: torch.Tensor
) -> Tuple[Hashable, ...]:
    """The kind of the graph behind that of a step's logits."""
    return (*kind, padded(masks.most), masks.places, memory.data_ptr())


def _mask_logits(logits: torch.Tensor, masks: StepMasks, memory: torch.Tensor, count: int) -> None:
    """Makes tokens that may not be drawn impossible, in place, by the first `count` masks. A GPU
    reads them from the host's memory.

    logits: [rows, vocab], which may still be computed.
    memory: uint8, the same as that of the masks.
    """
    rows = memory[: 8 * count].view(torch.int64)
    bits = memory[masks.bits_offset :][: 4 * masks.num_words * count].view(torch.int32)
    ops.mask_logits(logits, rows, bits.view(count, masks.num_words))
