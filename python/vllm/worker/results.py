"""Results of a step that are being copied from the device to the host."""

from __future__ import annotations

from typing import Callable, Dict, Hashable, List, NamedTuple, Optional, Tuple
from typing import Sequence as SequenceOf

import torch

from vllm.engine.executor import StepResult
from vllm.engine.step_input import StepInput
from vllm.layers.sampler import SamplingTensors, token_logprobs
from vllm.outputs import Logprob, TokenLogprobs


class PendingLogprobs(NamedTuple):
    """Per row of logits, the log-probability of one token, and those of the most likely tokens.

    tokens, logprobs, ranks: [rows]. best, best_ids: [rows, max(num_best)].
    num_best: how many of the most likely tokens to return, for each row.
    """

    tokens: torch.Tensor
    logprobs: torch.Tensor
    ranks: torch.Tensor
    best: torch.Tensor
    best_ids: torch.Tensor
    num_best: SequenceOf[int]

    @classmethod
    def of(
        cls, logits: torch.Tensor, tokens: torch.Tensor, num_best: SequenceOf[int]
    ) -> PendingLogprobs:
        """logits: [rows, vocab]; tokens: int64 [rows]."""
        found = token_logprobs(logits, tokens, max(num_best))
        logprobs, ranks, best, best_ids = [to_host(tensor) for tensor in found]
        return cls(to_host(tokens), logprobs, ranks, best, best_ids, num_best)

    def entries(self) -> List[TokenLogprobs]:
        """An entry for each row: its token first, then the most likely ones."""
        tensors = (self.tokens, self.logprobs, self.ranks, self.best, self.best_ids)
        columns = [tensor.tolist() for tensor in tensors]
        entries = []
        for token, logprob, rank, values, ids, count in zip(*columns, self.num_best):
            entry = {token: Logprob(logprob, rank)}
            for best_rank, (value, best) in enumerate(zip(values[:count], ids[:count]), start=1):
                entry.setdefault(best, Logprob(value, best_rank))
            entries.append(entry)
        return entries


class Unsampled(NamedTuple):
    """The rows of a step, up to their logits.

    logits: [rows, vocab]; None on ranks that do not sample.
    inputs: returns the tokens that they come from, int64 [rows], before the next is drawn.
    num_rows: with padding.
    how: each is sampled.
    due: int64 [1] on the device, the number of the step's masks.
    kind: of the graph that ended with these logits; None if they were launched kernel by kernel.
    """

    step: StepInput
    logits: Optional[torch.Tensor]
    inputs: Callable[[], torch.Tensor]
    num_rows: int
    how: SamplingTensors
    due: torch.Tensor
    kind: Optional[Tuple[Hashable, ...]] = None


class PendingResult:
    """A `StepResult` that the device may still be computing.

    unsampled: what `ModelRunner.sample` goes on with, where the step waits for its masks.
    masks: their number; 0 without any.
    tokens: int64 [rows], the sampled tokens.
    logprobs: of the rows `logprob_rows`; None without any.
    prompt_logprobs: by the sequence's index in the step, in parts.
    """

    def __init__(self) -> None:
        self.unsampled: Optional[Unsampled] = None
        self.masks = 0
        self.tokens: Optional[torch.Tensor] = None
        self.logprob_rows: List[int] = []
        self.logprobs: Optional[PendingLogprobs] = None
        self.prompt_logprobs: Dict[int, List[PendingLogprobs]] = {}
        self._done: Optional[torch.cuda.Event] = None

    def mark_end(self) -> None:
        """Records the end of the step on CUDA; call it after the last launch and copy."""
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record()

    def is_done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._done is None or bool(self._done.query())  # type: ignore[no-untyped-call]

    def wait(self) -> StepResult:
        """Waits for the result and returns it. Does not wait for work launched after this step."""
        if self._done is not None:
            self._done.synchronize()
        result = StepResult([] if self.tokens is None else self.tokens.tolist())
        if self.logprobs is not None:
            result.logprobs = dict(zip(self.logprob_rows, self.logprobs.entries()))
        for sequence, parts in self.prompt_logprobs.items():
            result.prompt_logprobs[sequence] = [e for part in parts for e in part.entries()]
        return result


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Starts a copy to the host; it must be synchronised before it is read."""
    if tensor.is_cuda:
        return tensor.to("cpu", non_blocking=True)
    return tensor.clone()
