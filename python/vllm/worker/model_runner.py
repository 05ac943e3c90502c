"""Runs a step on the device: from its input to sampled tokens."""

from __future__ import annotations

import math
from typing import Hashable, List, Mapping, NamedTuple, Optional, Tuple

import torch

from vllm import ops
from vllm.engine.step_input import SizeClass, StepInput, capacity
from vllm.layers.attention import AttentionPlanner, KVCache
from vllm.models.decoder import DecoderLM
from vllm.parallel.shard import split, split_or_copy
from vllm.worker.budget import graph_tokens
from vllm.worker.graphs import Graphs, GraphShape
from vllm.worker.results import PendingLogprobs, PendingResult, Unsampled
from vllm.worker.row_sampler import RowSampler
from vllm.worker.step_memory import StepMemory
from vllm.worker.step_tensors import StepTensors

# Prompt log-probabilities need a row of logits per token: compute this many at a time.
_LOGPROB_ROWS = 256

Plans = Mapping[int, ops.AttentionPlan]


class _Prepared(NamedTuple):
    """A step whose description is complete.

    shape, kind: of its graph; None and empty if it is launched kernel by kernel.
    """

    step: StepInput
    memory: torch.Tensor
    plans: Plans
    shape: Optional[GraphShape] = None
    kind: Tuple[Hashable, ...] = ()


class ModelRunner:
    """Runs a model over a paged KV cache.

    caches: keys and values of each layer, in KV blocks.
    max_num_seqs: the most sequences of a step.
    use_graphs: on CUDA, run steps as CUDA graphs if all sequences decode, or if the tokens are so
        few that Python could not launch their kernels in time (`budget.graph_tokens`).
    share_tokens: broadcast the tokens that rank 0 samples, for steps that are prepared before the
        host knows them.
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
        self._planner = _planner(model, caches, device) if device.type == "cuda" else None
        self._graphs = Graphs(device) if use_graphs and device.type == "cuda" else None
        self._most_graph_tokens = graph_tokens(model.config, device, model.group.size)
        self._memory = StepMemory(self.max_rows, device, self._graphs)
        self._sampler = RowSampler(
            model.group,
            self._memory,
            device,
            max_num_seqs=max_num_seqs,
            vocab_size=model.config.vocab_size,
            dtype=caches[0][0].dtype,
            share_tokens=share_tokens,
        )

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
        return self._launch(self._prepare(step, memory))

    @torch.inference_mode()
    def sample(self, result: PendingResult, masks: torch.Tensor) -> None:
        """Starts sampling a step that has masks. masks: uint8, their memory, filled by now."""
        assert result.unsampled is not None
        self._finish(result.unsampled.step, result, masks)

    @torch.inference_mode()
    def launch_ahead(
        self, result: PendingResult, masks: torch.Tensor, step: StepInput, memory: torch.Tensor
    ) -> Optional[PendingResult]:
        """Launches what `sample` does, where the masks are not filled yet, and then what `run`
        does. None, with nothing launched, if that is more than copies and graphs that have run."""
        rows, graphs = result.unsampled, self._graphs
        if rows is None or graphs is None or not self._sampler.waits(graphs, rows, masks):
            return None
        if not self._memory.holds(memory):
            return None
        prepared = self._prepare(step, memory)
        if not graphs.has(prepared.kind):
            return None
        self._finish(rows.step, result, masks)
        return self._launch(prepared)

    def masks_are_ready(self, number: int) -> None:
        """number: of the masks; see `StepMasks`. Any thread may call it."""
        self._sampler.gate.open(number)

    def let_all_pass(self) -> None:
        """The device waits for no masks that it has been told to wait for."""
        self._sampler.gate.open_for_all()

    def check(self, result: PendingResult) -> None:
        """Raises LateMasksError if the device went on without the step's masks."""
        if result.masks:
            self._sampler.gate.check(result.masks)

    def _finish(
        self, step: StepInput, result: PendingResult, masks: Optional[torch.Tensor] = None
    ) -> None:
        rows, result.unsampled = result.unsampled, None
        self._sampler.finish(step.num_rows, rows, result, masks, self._graphs)

    def _prepare(self, step: StepInput, memory: torch.Tensor) -> _Prepared:
        """Completes the step's description in the host's memory. It may be called again."""
        graphs = self._graphs
        shape = None if graphs is None else GraphShape.of(step, self._most_graph_tokens)
        plans = self._plan(step, memory, 0 if shape is None else shape.sequences)
        if shape is None:
            return _Prepared(step, memory, plans)
        step.pad(shape.tokens, shape.sequences, shape.rows, self.max_rows)
        uses = (
            *(step.uses_temperatures, step.uses_top_k, step.uses_top_p, step.uses_min_p),
            *(step.uses_penalties, any(plan.prefill_tiles for plan in plans.values())),
            self._planner is not None and self._planner.few_prefill_items(plans),
            *(plan.cluster for plan in plans.values()),
        )
        kind = (step.layout.size, shape, uses, step.masks is not None)
        return _Prepared(step, memory, plans, shape, kind)

    def _launch(self, prepared: _Prepared) -> PendingResult:
        step, result, graphs = prepared.step, PendingResult(), self._graphs
        tensors = self._memory.send(step.layout, prepared.memory)
        if graphs is not None and prepared.shape is not None:
            result.unsampled = self._replay(graphs, prepared.shape, prepared, tensors)
        else:
            result.unsampled = self._run_eagerly(step, tensors, prepared.plans, result)
        if step.masks is None:
            self._finish(step, result)
        else:
            result.masks = step.masks.number
        return result

    def _run_eagerly(
        self, step: StepInput, tensors: StepTensors, plans: Plans, result: PendingResult
    ) -> Optional[Unsampled]:
        on_device = {
            window: plan._replace(items=items[: len(plan.items)])
            for (window, plan), items in zip(plans.items(), self._items(tensors))
        }
        token_ids, rows = self._memory.token_ids(tensors, step.num_tokens), None
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
        logits = self.model.logits(hidden)
        return Unsampled(step, logits, lambda: token_ids, len(token_ids), how, tensors.due)

    def _replay(
        self, graphs: Graphs, shape: GraphShape, prepared: _Prepared, tensors: StepTensors
    ) -> Optional[Unsampled]:
        """A step that is padded to a graph's shape. With masks, the graph ends with the logits."""
        step, plans, kind = prepared.step, prepared.plans, prepared.kind
        masked = step.masks is not None
        rows = tensors.rows(shape.rows) if shape.selects else None
        how = tensors.sampling(step, shape.rows, step.layout.size.changes)

        def compute() -> None:
            token_ids = self._memory.token_ids(tensors, shape.tokens)
            largest = self._largest_plans(shape, plans, tensors)
            hidden = self._hidden(token_ids, tensors, shape.sequences, largest, rows)
            if not shape.rows:
                return
            if masked:  # only rank 0 is given masks
                self.model.logits_into(hidden, self._sampler.kept(shape.rows))
                return

            def inputs() -> torch.Tensor:
                return token_ids if rows is None else token_ids[rows]

            self._sampler.draw(self.model.logits(hidden), how, inputs, shape.rows)

        graphs.run(kind, compute)
        if not masked:
            return None
        return Unsampled(
            step,
            self._sampler.kept(shape.rows),
            lambda: self._inputs(tensors, shape),
            shape.rows,
            how,
            tensors.due,
            kind,
        )

    def _inputs(self, tensors: StepTensors, shape: GraphShape) -> torch.Tensor:
        """The input token of each row of a padded step, int64 [rows]."""
        token_ids = self._memory.token_ids(tensors, shape.tokens)
        return token_ids[tensors.rows(shape.rows)] if shape.selects else token_ids

    def _largest_plans(self, shape: GraphShape, plans: Plans, tensors: StepTensors) -> Plans:
        """Plans whose grids serve all steps of a shape."""
        if self._planner is None:
            return plans
        prompt_tokens = shape.tokens if shape.selects else 0
        return self._planner.largest(plans, self._items(tensors), prompt_tokens, shape.sequences)

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

    def _plan(self, step: StepInput, memory: torch.Tensor, most_sequences: int) -> Plans:
        """Plans the step's attention; the plans' items are written after the step's arrays.

        most_sequences: of a graph's steps, or 0.
        """
        if self._planner is None:
            return {}
        host = self._memory.views_of(memory, step.layout)
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
