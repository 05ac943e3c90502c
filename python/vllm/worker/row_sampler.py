"""From a step's logits to its tokens, on the device and then on the host."""

from __future__ import annotations

from typing import Optional

import torch

from vllm import ops
from vllm.engine.masks import StepMasks
from vllm.layers.sampler import SamplingTensors, TokenCounters, change_logits, sample
from vllm.parallel.group import Group
from vllm.worker.results import PendingLogprobs, PendingResult, Unsampled
from vllm.worker.step_memory import StepMemory, copy_numbers


class RowSampler:
    """Draws tokens into the memory that the next step reads; rank 0 does.

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
        share_tokens: bool,
    ) -> None:
        self._group = group
        self._memory = memory
        self._on_gpu = device.type == "cuda"
        self._shares_tokens = share_tokens
        self._counters: Optional[TokenCounters] = None
        if group.rank == 0:
            self._counters = TokenCounters.make(max_num_seqs, vocab_size, device)
        self._logits: Optional[torch.Tensor] = None  # [max_rows, vocab], allocated on first use
        # Double-buffered: the tokens of the previous step may not have been collected yet.
        shape = (2, memory.max_rows)
        self._results = torch.empty(shape, dtype=torch.int64, device="cpu", pin_memory=self._on_gpu)
        self._turn = 0

    def keep(self, logits: torch.Tensor) -> None:
        """Copies a graph's logits out of its memory, to be masked after the replay."""
        if self._logits is None:
            self._logits = logits.new_empty(self._memory.max_rows, logits.shape[-1])
        self._logits[: len(logits)].copy_(logits)

    def kept(self, num_rows: int) -> torch.Tensor:
        assert self._logits is not None
        return self._logits[:num_rows]

    def draw(
        self, logits: Optional[torch.Tensor], how: SamplingTensors, inputs: torch.Tensor
    ) -> torch.Tensor:
        """Samples a token for each row, int64 [rows], which all ranks get.

        logits: None on ranks that do not sample.
        inputs: the input token of each row, int64 [rows].
        """
        tokens = self._memory.last_tokens(len(inputs))
        if logits is not None:
            assert self._counters is not None
            sample(change_logits(logits, how, inputs, self._counters), how, tokens)
        if self._shares_tokens:
            self._group.broadcast(tokens)
        return tokens

    def finish(
        self,
        num_rows: int,
        rows: Optional[Unsampled],
        result: PendingResult,
        masks: Optional[torch.Tensor] = None,
    ) -> None:
        """Samples what a graph has not, and brings the tokens back.

        num_rows: of the step, without padding.
        masks: uint8, their memory, filled.
        """
        if rows is not None:
            self._sample(rows, result, masks)
        if num_rows:
            self._turn = 1 - self._turn
            result.tokens = self._results[self._turn, :num_rows]
            copy_numbers(result.tokens, self._memory.last_tokens(num_rows))
        if self._on_gpu:
            result.mark_end()

    def _sample(
        self, rows: Unsampled, result: PendingResult, masks: Optional[torch.Tensor]
    ) -> None:
        step, logits, token_ids, how = rows
        told = [row for row, _ in step.logprobs]
        raw = None
        if logits is not None:
            raw = logits[told] if told else None  # a copy: the logits may be changed in place
            if step.masks is not None and masks is not None:
                _mask_logits(logits, step.masks, masks)
        tokens = self.draw(logits, how, token_ids)
        if raw is not None:
            result.logprob_rows = told
            wanted = [num_best for _, num_best in step.logprobs]
            result.logprobs = PendingLogprobs.of(raw, tokens[told], wanted)


def _mask_logits(logits: torch.Tensor, masks: StepMasks, memory: torch.Tensor) -> None:
    """Makes tokens that may not be drawn impossible, in place.

    logits: [rows, vocab], which may still be computed.
    memory: uint8, the same as that of the masks.
    """
    if not masks.rows:  # all that wanted one have ended
        return
    memory = memory[: masks.nbytes].to(logits.device, non_blocking=True)
    rows = memory[: 8 * len(masks.rows)].view(torch.int64)
    bits = memory[masks.bits_offset :].view(torch.int32)
    ops.mask_logits(logits, rows, bits.view(-1, masks.num_words))
