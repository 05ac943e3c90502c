"""Runs a step on the device: from its input to sampled tokens."""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Optional, Tuple

import torch

from vllm import ops
from vllm.engine.masks import StepMasks
from vllm.engine.step_input import SizeClass, StepInput, StepLayout, capacity
from vllm.layers.attention import AttentionPlanner, KVCache
from vllm.layers.sampler import SamplingTensors, TokenCounters, change_logits, sample
from vllm.models.decoder import DecoderLM
from vllm.parallel.shard import split, split_or_copy
from vllm.worker.budget import graph_tokens
from vllm.worker.graphs import Graphs, GraphShape
from vllm.worker.results import PendingLogprobs, PendingResult, Unsampled
from vllm.worker.step_tensors import StepTensors

# Prompt log-probabilities need a row of logits per token: compute this many at a time.
_LOGPROB_ROWS = 256

# Up to this many bytes a copy kernel is faster than the copy engine, which waits for the kernels
# before it and which the kernels after it wait for.
_FEW_BYTES = 1 << 18

Plans = Mapping[int, ops.AttentionPlan]


class ModelRunner:
    """Runs a model over a paged KV cache.

    caches: keys and values of each layer, in KV blocks.
    max_num_seqs: the most sequences of a step.
    use_graphs: on CUDA, run steps as CUDA graphs if all sequences decode, or if the tokens are so
        few that Python could not launch their kernels in time (`budget.graph_tokens`).
    share_tokens: broadcast the tokens that rank 0 samples, for steps that are prepared before the
        host knows them.

    One device buffer holds the tokens that the last step sampled, followed by the step's input,
    which begins with its token ids. So one index finds a token id, whether the host knows it or
    not; see `StepInput.sources`.
    """

    def __init__(
        self,
        model: DecoderLM,
        caches: List[KVCache],
        *,
        device: torch.device,
        max_num_seqs: int,
        use_graphs: bool = False,
        share_tokens: bool = False,
    ) -> None:
        self.model = model
        self.caches = caches
        self.device = device
        self.max_rows = capacity(max_num_seqs)
        self._shares_tokens = share_tokens
        self._planner = _planner(model, caches, device) if device.type == "cuda" else None
        self._graphs = Graphs(device) if use_graphs and device.type == "cuda" else None
        self._most_graph_tokens = graph_tokens(model.config, device, model.group.size)
        self._counters: Optional[TokenCounters] = None
        if model.group.rank == 0:  # it samples
            self._counters = TokenCounters.make(max_num_seqs, model.config.vocab_size, device)
        self._logits: Optional[torch.Tensor] = None  # [max_rows, vocab], allocated on first use
        self._memory = torch.zeros(self.max_rows, dtype=torch.int64, device=device)
        # Double-buffered: the tokens of the previous step may not have been collected yet.
        pinned = device.type == "cuda"
        shape = (2, self.max_rows)
        self._results = torch.empty(shape, dtype=torch.int64, device="cpu", pin_memory=pinned)
        self._turn = 0
        self._views: Dict[Tuple[int, SizeClass], StepTensors] = {}  # by address and class

    def room(self, size: SizeClass) -> int:
        """Bytes after a step's arrays, for its attention plans."""
        if self._planner is None:
            return 0
        shape = self._planner.items_shape(size.tokens, size.sequences)
        return math.prod(shape) * torch.int32.itemsize

    def close(self) -> None:
        """Deletes the graphs, which use the group's resources. Call it after the last step."""
        if self._graphs is not None:
            self._graphs.clear()

    @torch.inference_mode()
    def run(self, step: StepInput, memory: torch.Tensor) -> PendingResult:
        """Starts computing the tokens of a step together, and sampling its rows: rank 0 does.

        With masks it ends with the logits: they are computed while the masks are made, and `sample`
        goes on.

        memory: uint8, that of the step.
        """
        result = PendingResult()
        graphs = self._graphs
        shape = None if graphs is None else GraphShape.of(step, self._most_graph_tokens)
        plans = self._plan(step, memory, 0 if shape is None else shape.sequences)
        if graphs is not None and shape is not None:
            step.pad(shape.tokens, shape.sequences, shape.rows, self.max_rows)
            tensors = self._send(step.layout, memory)
            result.unsampled = self._replay(graphs, shape, step, tensors, plans)
        else:
            tensors = self._send(step.layout, memory)
            result.unsampled = self._run_eagerly(step, tensors, plans, result)
        if step.masks is None:
            self._finish(step, result)
        return result

    @torch.inference_mode()
    def sample(self, result: PendingResult, masks: torch.Tensor) -> None:
        """Starts sampling a step that has masks. masks: uint8, their memory, filled by now."""
        assert result.unsampled is not None
        self._finish(result.unsampled.step, result, masks)

    def _run_eagerly(
        self, step: StepInput, tensors: StepTensors, plans: Plans, result: PendingResult
    ) -> Optional[Unsampled]:
        on_device = {
            window: plan._replace(items=items[: len(plan.items)])
            for (window, plan), items in zip(plans.items(), self._items(tensors))
        }
        token_ids, rows = self._token_ids(tensors, step.num_tokens), None
        if step.num_rows < step.num_tokens:
            rows = tensors.rows(step.num_rows)
        wanted = None if step.prompt_logprobs else rows
        hidden = self._hidden(token_ids, tensors, step.num_sequences, on_device, wanted)
        for sequence, row, targets, num_best in step.prompt_logprobs:
            result.prompt_logprobs[sequence] = self._prompt_logprobs(
                hidden[row : row + len(targets)], targets, num_best
            )
        if not step.num_rows:
            return None
        if rows is not None:
            hidden, token_ids = hidden if wanted is rows else hidden[rows], token_ids[rows]
        how = tensors.sampling(step, step.num_rows, step.num_changes)
        return Unsampled(step, self.model.logits(hidden), token_ids, how)

    def _replay(
        self,
        graphs: Graphs,
        shape: GraphShape,
        step: StepInput,
        tensors: StepTensors,
        plans: Plans,
    ) -> Optional[Unsampled]:
        """A step that is padded to a graph's shape. With masks, the graph ends with the logits."""
        size = step.layout.size
        uses = (
            *(step.uses_temperatures, step.uses_top_k, step.uses_top_p, step.uses_min_p),
            *(step.uses_penalties, any(plan.prefill_tiles for plan in plans.values())),
            *(plan.cluster for plan in plans.values()),
        )
        masked = step.masks is not None
        rows = tensors.rows(shape.rows) if shape.selects else None

        def compute() -> None:
            token_ids = self._token_ids(tensors, shape.tokens)
            largest = self._largest_plans(shape, plans, tensors)
            hidden = self._hidden(token_ids, tensors, shape.sequences, largest, rows)
            if not shape.rows:
                return
            logits = self.model.logits(hidden)
            if masked:
                assert logits is not None  # only rank 0 is given masks
                self._kept_logits(logits).copy_(logits)
                return
            if logits is not None:
                how = tensors.sampling(step, shape.rows, size.changes)
                self._draw(logits, how, token_ids if rows is None else token_ids[rows])
            self._share_tokens(shape.rows)

        graphs.run((size, shape, uses, masked), compute)
        if not masked:
            return None
        assert self._logits is not None
        how = tensors.sampling(step, shape.rows, size.changes)
        token_ids = self._token_ids(tensors, shape.tokens)
        if rows is not None:
            token_ids = token_ids[rows]
        return Unsampled(step, self._logits[: shape.rows], token_ids, how)

    def _largest_plans(self, shape: GraphShape, plans: Plans, tensors: StepTensors) -> Plans:
        """Plans whose grids serve all steps of a shape."""
        if self._planner is None:
            return plans
        prompt_tokens = shape.tokens if shape.selects else 0
        return self._planner.largest(plans, self._items(tensors), prompt_tokens, shape.sequences)

    def _finish(
        self, step: StepInput, result: PendingResult, masks: Optional[torch.Tensor] = None
    ) -> None:
        """Samples what a graph has not, and brings the tokens back."""
        if result.unsampled is not None:
            self._sample_eagerly(result.unsampled, result, masks)
            result.unsampled = None
        num_rows = step.num_rows
        if num_rows:
            self._turn = 1 - self._turn
            result.tokens = self._results[self._turn, :num_rows]
            self._copy(result.tokens, self._last_tokens(num_rows))
        if self.device.type == "cuda":
            result.mark_end()

    def _sample_eagerly(
        self, rows: Unsampled, result: PendingResult, masks: Optional[torch.Tensor]
    ) -> None:
        step, logits, token_ids, how = rows
        if logits is not None:  # rank 0 samples
            told = [row for row, _ in step.logprobs]
            raw = logits[told] if told else None  # a copy: the logits may be changed in place
            if step.masks is not None and masks is not None:
                _mask_logits(logits, step.masks, masks)
            tokens = self._draw(logits, how, token_ids)
            if raw is not None:
                result.logprob_rows = told
                wanted = [num_best for _, num_best in step.logprobs]
                result.logprobs = PendingLogprobs.of(raw, tokens[told], wanted)
        self._share_tokens(len(token_ids))

    def _kept_logits(self, like: torch.Tensor) -> torch.Tensor:
        """Memory outside the graph for its logits, which are masked after the replay."""
        if self._logits is None:
            self._logits = like.new_empty(self.max_rows, like.shape[-1])
        return self._logits[: len(like)]

    def _token_ids(self, tensors: StepTensors, num_tokens: int) -> torch.Tensor:
        """int64 [tokens]"""
        return self._memory.index_select(0, tensors.sources(num_tokens))

    def _hidden(
        self,
        token_ids: torch.Tensor,
        tensors: StepTensors,
        num_sequences: int,
        plans: Plans,
        rows: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """The last hidden states of `rows`, or of all tokens, [rows, hidden_size]."""
        num_tokens = len(token_ids)
        hidden: torch.Tensor = self.model(
            token_ids,
            tensors.positions(num_tokens),
            self.caches,
            tensors.metadata(num_tokens, num_sequences, plans),
            rows,
        )
        return hidden

    def _draw(
        self, logits: torch.Tensor, how: SamplingTensors, inputs: torch.Tensor
    ) -> torch.Tensor:
        """Samples a token for each row, int64 [rows], into the memory that the next step reads.

        inputs: the input token of each row, int64 [rows].
        """
        assert self._counters is not None
        logits = change_logits(logits, how, inputs, self._counters)
        return sample(logits, how, self._last_tokens(len(logits)))

    def _share_tokens(self, num_rows: int) -> None:
        if self._shares_tokens:
            self.model.group.broadcast(self._last_tokens(num_rows))

    def _last_tokens(self, num_rows: int) -> torch.Tensor:
        return self._memory[:num_rows]

    def _plan(self, step: StepInput, memory: torch.Tensor, most_sequences: int) -> Plans:
        """Plans the step's attention; the plans' items are written after the step's arrays.

        most_sequences: of a graph's steps, or 0.
        """
        if self._planner is None:
            return {}
        host = self._views_of(memory, step.layout)
        return self._planner.plan(
            host.context_lens(step.num_sequences),
            host.query_starts(step.num_sequences),
            self._items(host),
            host.block_tables(step.num_sequences),
            most_sequences,
        )

    def _items(self, tensors: StepTensors) -> torch.Tensor:
        """The items of a step's plans, int32 of shape `AttentionPlanner.items_shape`; empty on the
        CPU."""
        if self._planner is None:
            return tensors.room.view(0, 0, 0)
        size = tensors.size
        return tensors.room.view(self._planner.items_shape(size.tokens, size.sequences))

    def _send(self, layout: StepLayout, memory: torch.Tensor) -> StepTensors:
        """Copies the step to the device, in one copy."""
        start = self.max_rows * self._memory.element_size()
        if self._memory.nbytes < start + len(memory):
            larger = torch.zeros(
                (start + len(memory)) // self._memory.element_size(),
                dtype=torch.int64,
                device=self.device,
            )
            larger[: self.max_rows] = self._last_tokens(self.max_rows)
            self._memory = larger
            self._views.clear()
            if self._graphs is not None:
                self._graphs.clear()
        described = self._memory.view(torch.uint8)[start : start + layout.nbytes]
        self._copy(described.view(torch.int64), memory[: layout.nbytes].view(torch.int64))
        return self._views_of(described, layout)

    def _copy(self, out: torch.Tensor, values: torch.Tensor) -> None:
        """Copies int64 values between device and host, asynchronously: host memory is pinned."""
        if self.device.type == "cuda" and values.nbytes <= _FEW_BYTES:
            ops.copy_pinned(out, values)
        else:
            out.copy_(values, non_blocking=True)

    def _views_of(self, memory: torch.Tensor, layout: StepLayout) -> StepTensors:
        key = (memory.data_ptr(), layout.size)
        views = self._views.get(key)
        if views is None:
            views = self._views[key] = StepTensors(layout, memory)
        return views

    def _prompt_logprobs(
        self, states: torch.Tensor, targets: List[int], num_best: int
    ) -> List[PendingLogprobs]:
        """states: [targets, hidden_size], the hidden states whose logits predict the targets."""
        parts = []
        for start in range(0, len(targets), _LOGPROB_ROWS):
            part = targets[start : start + _LOGPROB_ROWS]
            logits = self.model.logits(states[start : start + len(part)])
            if logits is not None:
                tokens = torch.tensor(part, device=self.device)
                parts.append(PendingLogprobs.of(logits, tokens, [num_best] * len(part)))
        return parts


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


def _planner(model: DecoderLM, caches: List[KVCache], device: torch.device) -> AttentionPlanner:
    config, group, keys = model.config, model.group, caches[0][0]
    return AttentionPlanner(
        split(config.num_attention_heads, group).size,
        split_or_copy(config.num_key_value_heads, group).size,
        config.head_dim,
        device,
        model.sliding_windows,
        block_size=keys.shape[1],
        dtype=keys.dtype,
    )
