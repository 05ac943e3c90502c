"""One step on the device: from its description to sampled tokens."""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Tuple
from typing import Sequence as SequenceOf

import torch

from vllm import ops
from vllm.engine.executor import StepResult
from vllm.engine.step_input import SizeClass, StepInput, StepLayout
from vllm.layers.attention import AttentionPlanner, KVCache
from vllm.layers.sampler import sample, token_logprobs
from vllm.models.decoder import DecoderLM
from vllm.outputs import Logprob, TokenLogprobs
from vllm.worker.step_tensors import StepTensors

# Prompt log-probabilities take a row of logits per token; this many rows at a time bounds that.
_LOGPROB_ROWS = 256


class ModelRunner:
    """Runs a model over paged caches.

    caches: keys and values of each layer, in blocks of tokens.
    """

    def __init__(self, model: DecoderLM, caches: List[KVCache], *, device: torch.device) -> None:
        self.model = model
        self.caches = caches
        self.device = device
        self._planner = _planner(model, device) if device.type == "cuda" else None
        self._device_memory = torch.empty(0, dtype=torch.uint8, device=device)
        self._views: Dict[Tuple[int, SizeClass], StepTensors] = {}  # by address and class

    def room(self, size: SizeClass) -> int:
        """Bytes behind the description of a step, for the plans of its attention."""
        if self._planner is None:
            return 0
        shape = self._planner.items_shape(size.tokens, size.sequences)
        return math.prod(shape) * torch.int32.itemsize

    @torch.inference_mode()
    def run(self, step: StepInput, memory: torch.Tensor) -> StepResult:
        """Computes the tokens of a step together, and samples its rows.

        memory: uint8, that of the step.
        """
        tensors, plans = self._send(step, memory)
        hidden = self.model(
            tensors.token_ids(step.num_tokens),
            tensors.positions(step.num_tokens),
            self.caches,
            tensors.metadata(step.num_tokens, step.num_sequences, plans),
        )
        result = StepResult()
        for sequence, row, targets, num_best in step.prompt_logprobs:
            states = hidden[row : row + len(targets)]
            result.prompt_logprobs[sequence] = self._prompt_logprobs(states, targets, num_best)
        if step.num_rows:
            logits = self.model.logits(hidden[tensors.rows(step.num_rows)])
            self._sample(result, logits, step, tensors)
        return result

    def _send(
        self, step: StepInput, memory: torch.Tensor
    ) -> Tuple[StepTensors, Mapping[int, ops.AttentionPlan]]:
        """The step on the device, in one copy, with its plans; on the CPU it is there already."""
        layout = step.layout
        host = self._views_of(memory, layout)
        if self._planner is None:
            return host, {}
        shape = self._planner.items_shape(layout.size.tokens, layout.size.sequences)
        plans = self._planner.plan(
            host.context_lens(step.num_sequences),
            host.query_starts(step.num_sequences),
            host.room.view(shape),
        )
        if len(self._device_memory) < len(memory):
            self._device_memory = torch.empty_like(memory, device=self.device)
            self._views.clear()
        # From pinned memory: nobody waits for the device.
        self._device_memory[: layout.nbytes].copy_(memory[: layout.nbytes], non_blocking=True)
        sent = self._views_of(self._device_memory, layout)
        items = sent.room.view(shape)
        return sent, {
            window: plan._replace(items=part[: len(plan.items)])
            for (window, plan), part in zip(plans.items(), items)
        }

    def _views_of(self, memory: torch.Tensor, layout: StepLayout) -> StepTensors:
        key = (memory.data_ptr(), layout.size)
        views = self._views.get(key)
        if views is None:
            views = self._views[key] = StepTensors(layout, memory)
        return views

    def _sample(
        self, result: StepResult, logits: torch.Tensor, step: StepInput, tensors: StepTensors
    ) -> None:
        rows = [row for row, _ in step.logprobs]
        raw = logits[rows] if rows else None  # a copy: sampling changes the logits in place
        tokens = sample(logits, tensors.sampling(step, step.num_rows, step.num_changes))
        result.token_ids = tokens.tolist()
        if raw is not None:
            found = _logprobs(raw, tokens[rows], [num_best for _, num_best in step.logprobs])
            result.logprobs = dict(zip(rows, found))

    def _prompt_logprobs(
        self, states: torch.Tensor, targets: List[int], num_best: int
    ) -> List[TokenLogprobs]:
        """states: hidden ones, [targets, hidden_size], whose logits predict the targets."""
        found: List[TokenLogprobs] = []
        for start in range(0, len(targets), _LOGPROB_ROWS):
            part = targets[start : start + _LOGPROB_ROWS]
            logits = self.model.logits(states[start : start + len(part)])
            tokens = torch.tensor(part, device=self.device)
            found += _logprobs(logits, tokens, [num_best] * len(part))
        return found


def _planner(model: DecoderLM, device: torch.device) -> AttentionPlanner:
    config = model.config
    return AttentionPlanner(
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        device,
        model.sliding_windows,
    )


def _logprobs(
    logits: torch.Tensor, tokens: torch.Tensor, num_best: SequenceOf[int]
) -> List[TokenLogprobs]:
    """One entry per row: its token first, then its `num_best` most likely ones."""
    outputs = token_logprobs(logits, tokens, max(num_best))
    columns = [tensor.tolist() for tensor in (tokens, *outputs)]
    entries = []
    for token, logprob, rank, values, ids, count in zip(*columns, num_best):
        entry = {token: Logprob(logprob, rank)}
        for best_rank, (value, best) in enumerate(zip(values[:count], ids[:count]), start=1):
            entry.setdefault(best, Logprob(value, best_rank))
        entries.append(entry)
    return entries
