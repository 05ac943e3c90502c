"""From sequences to the tensors that the sampler works on."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import List, Optional
from typing import Sequence as SequenceOf

import torch

from vllm.engine.sequence import Sequence
from vllm.layers.sampler import LogitChanges, SamplingTensors


class SamplingTensorBuilder:
    """Builds `SamplingTensors` for one batch after another.

    Most steps sample the sequences of the step before: what depends on their parameters alone is
    kept until the batch changes.
    """

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._seqs: List[Sequence] = []
        self._lasting = SamplingTensors()
        self._any_changes = False

    def build(self, seqs: SequenceOf[Sequence]) -> SamplingTensors:
        """seqs: one per row of the logits."""
        if seqs != self._seqs:
            self._seqs = list(seqs)
            self._lasting = self._build_lasting(self._seqs)
        changes = self._build_changes(seqs) if self._any_changes else None
        draws = None
        if self._lasting.temperatures is not None:
            draws = self._integers([seq.num_output_tokens for seq in seqs])
        return replace(self._lasting, draws=draws, changes=changes)

    def _build_lasting(self, seqs: SequenceOf[Sequence]) -> SamplingTensors:
        self._any_changes = any(s.params.has_penalties or s.params.min_tokens for s in seqs)
        params = [seq.params for seq in seqs]
        if all(p.is_greedy for p in params):
            return SamplingTensors()
        top_k = [p.top_k if 0 < p.top_k < self._vocab_size else 0 for p in params]
        top_p = [p.top_p for p in params]
        min_p = [p.min_p for p in params]
        return SamplingTensors(
            temperatures=self._reals([0.0 if p.is_greedy else p.temperature for p in params]),
            top_k=self._integers(top_k) if any(top_k) else None,
            top_p=self._reals(top_p) if min(top_p) < 1 else None,
            min_p=self._reals(min_p) if any(min_p) else None,
            seeds=self._integers([seq.seed for seq in seqs]),
        )

    def _build_changes(self, seqs: SequenceOf[Sequence]) -> Optional[LogitChanges]:
        """There may be hundreds of tokens to each sequence: none is touched in Python."""
        tokens = array("q")
        uses = array("f")  # of each token in the output; infinite where it is forbidden
        lengths: List[int] = []
        for seq in seqs:
            counts = seq.token_counts or {}
            forbidden = frozenset() if seq.may_end else seq.ending_token_ids()
            if forbidden:
                counts = {token: n for token, n in counts.items() if token not in forbidden}
            tokens.extend(counts)
            tokens.extend(forbidden)
            uses.extend(counts.values())
            uses.extend([float("inf")] * len(forbidden))
            lengths.append(len(counts) + len(forbidden))
        if not tokens:
            return None
        repeats = torch.tensor(lengths)
        used = torch.frombuffer(uses, dtype=torch.float32)

        def of_each(values: List[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32).repeat_interleave(repeats)

        presence = of_each([seq.params.presence_penalty for seq in seqs])
        frequency = of_each([seq.params.frequency_penalty for seq in seqs])
        subtract = torch.where(used > 0, presence + frequency * used, 0.0)
        return LogitChanges(
            torch.arange(len(seqs)).repeat_interleave(repeats).to(self._device),
            torch.frombuffer(tokens, dtype=torch.int64).to(self._device),
            of_each([seq.params.repetition_penalty for seq in seqs]).to(self._device),
            subtract.masked_fill_(used.isinf(), float("inf")).to(self._device),
        )

    def _integers(self, values: List[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _reals(self, values: List[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)
