"""From sequences to the tensors that the sampler works on."""

from __future__ import annotations

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
        rows: List[int] = []
        tokens: List[int] = []
        repetition: List[float] = []
        subtract: List[float] = []
        for row, seq in enumerate(seqs):
            params = seq.params
            forbidden = frozenset() if seq.may_end else seq.ending_token_ids()
            counts = seq.token_counts
            if counts is not None:
                penalised = [token for token in counts if token not in forbidden]
                rows += [row] * len(penalised)
                tokens += penalised
                repetition += [params.repetition_penalty] * len(penalised)
                presence, frequency = params.presence_penalty, params.frequency_penalty
                subtract += [
                    presence + frequency * counts[token] if counts[token] else 0.0
                    for token in penalised
                ]
            rows += [row] * len(forbidden)
            tokens += forbidden
            repetition += [1.0] * len(forbidden)
            subtract += [float("inf")] * len(forbidden)
        if not rows:
            return None
        return LogitChanges(
            self._integers(rows),
            self._integers(tokens),
            self._reals(repetition),
            self._reals(subtract),
        )

    def _integers(self, values: List[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _reals(self, values: List[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)
