"""One step on the device: from the scheduler's chunks to sampled tokens."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple
from typing import Sequence as SequenceOf

import torch

from vllm.engine.sampling import SamplingTensorBuilder
from vllm.engine.scheduler import Chunk
from vllm.engine.sequence import Sequence
from vllm.engine.transfer import to_device
from vllm.layers.attention import AttentionMetadata, AttentionPlanner, KVCache
from vllm.layers.sampler import sample, token_logprobs
from vllm.models.decoder import DecoderLM
from vllm.outputs import Logprob, TokenLogprobs

# Prompt log-probabilities take a row of logits per token; this many rows at a time bounds that.
_LOGPROB_ROWS = 256


@dataclass
class StepResult:
    """What a step gave, as plain Python values.

    token_ids: of each chunk that samples, in order.
    logprobs: of the same chunks, None where not asked for.
    prompt_logprobs: by sequence id, (position in the prompt, its log-probabilities).
    """

    token_ids: List[int] = field(default_factory=list)
    logprobs: List[Optional[TokenLogprobs]] = field(default_factory=list)
    prompt_logprobs: Dict[int, List[Tuple[int, TokenLogprobs]]] = field(default_factory=dict)


class ModelRunner:
    """Runs a model over paged caches.

    caches: keys and values of each layer, in blocks of `block_size` tokens.
    """

    def __init__(
        self,
        model: DecoderLM,
        caches: List[KVCache],
        *,
        block_size: int,
        device: torch.device,
    ) -> None:
        self.model = model
        self.caches = caches
        self.block_size = block_size
        self.device = device
        self._sampling = SamplingTensorBuilder(model.config.vocab_size, device)
        self._planner = _planner(model, device) if device.type == "cuda" else None

    @torch.inference_mode()
    def run(self, chunks: SequenceOf[Chunk]) -> StepResult:
        """Computes the chunks together, and samples where they reach the end of a sequence."""
        token_ids, positions, rows, metadata = self._prepare(chunks)
        hidden = self.model(token_ids, positions, self.caches, metadata)
        result = StepResult()
        self._collect_prompt_logprobs(result, hidden, chunks)
        sampling = [chunk.seq for chunk in chunks if chunk.samples]
        if sampling:
            self._sample(result, self.model.logits(hidden[rows]), sampling)
        return result

    def _prepare(
        self, chunks: SequenceOf[Chunk]
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, AttentionMetadata]:
        """Token ids, their positions, the rows that sample, and where everything lies.

        All of it is worked out on the host, and sent to the device in one transfer.
        """
        # Arrays, for a tensor of one is made without a look at each element.
        token_ids, positions, rows = array("q"), array("q"), array("q")
        query_starts = array("i", [0])
        for seq, start, end, samples in chunks:
            if end - start == 1:  # most chunks: a sequence that generates
                token_ids.append(seq.token_ids[start])
                positions.append(start)
            else:
                token_ids.extend(seq.token_ids[start:end])
                positions.extend(range(start, end))
            query_starts.append(len(token_ids))
            if samples:
                rows.append(len(token_ids) - 1)
        at = torch.frombuffer(positions, dtype=torch.int64)
        starts = torch.frombuffer(query_starts, dtype=torch.int32)
        block_tables = self._block_tables([chunk.seq for chunk in chunks])
        owners = torch.repeat_interleave(starts.diff(), output_size=len(token_ids))
        blocks = block_tables[owners, at // self.block_size].to(torch.int64)
        context_lens = torch.tensor([chunk.end for chunk in chunks], dtype=torch.int32)
        plans = self._planner.plan(context_lens, starts) if self._planner is not None else {}
        ids, at, sampled, slots, block_tables, context_lens, starts, *items = to_device(
            [
                torch.frombuffer(token_ids, dtype=torch.int64),
                at,
                torch.frombuffer(rows, dtype=torch.int64) if rows else at[:0],
                blocks * self.block_size + at % self.block_size,
                block_tables,
                context_lens,
                starts,
                *(torch.as_tensor(plan.items) for plan in plans.values()),
            ],
            self.device,
        )
        plans = {
            window: plan._replace(items=part) for (window, plan), part in zip(plans.items(), items)
        }
        return ids, at, sampled, AttentionMetadata(slots, block_tables, context_lens, starts, plans)

    def _block_tables(self, seqs: SequenceOf[Sequence]) -> torch.Tensor:
        """int32 [sequences, blocks of the longest], padded with block 0."""
        tables = [seq.block_table for seq in seqs]
        width = max(map(len, tables))
        row_bytes = width * tables[0].itemsize
        rows = b"".join([table.tobytes().ljust(row_bytes, b"\0") for table in tables])
        flat = torch.frombuffer(bytearray(rows), dtype=torch.int32)
        return flat.view(len(tables), width)

    def _sample(self, result: StepResult, logits: torch.Tensor, seqs: SequenceOf[Sequence]) -> None:
        wanted = [seq.params.logprobs for seq in seqs]
        rows = [row for row, num_best in enumerate(wanted) if num_best is not None]
        raw = logits[rows] if rows else None  # a copy: sampling changes the logits in place
        tokens = sample(logits, self._sampling.build(seqs))
        result.token_ids = tokens.tolist()
        result.logprobs = [None] * len(seqs)
        if raw is not None:
            num_best = [seqs[row].params.logprobs or 0 for row in rows]
            for row, entry in zip(rows, _logprobs(raw, tokens[rows], num_best)):
                result.logprobs[row] = entry

    def _collect_prompt_logprobs(
        self, result: StepResult, hidden: torch.Tensor, chunks: SequenceOf[Chunk]
    ) -> None:
        first_row = 0
        for seq, start, end, _ in chunks:
            # The token at a position is predicted by the hidden state before it.
            last = min(end, seq.num_prompt_tokens - 1)
            if seq.prompt_logprobs_wanted and start < last:
                entries = result.prompt_logprobs.setdefault(seq.seq_id, [])
                num_best = seq.params.prompt_logprobs or 0
                for begin in range(start, last, _LOGPROB_ROWS):
                    stop = min(last, begin + _LOGPROB_ROWS)
                    row = first_row + begin - start
                    logits = self.model.logits(hidden[row : row + stop - begin])
                    tokens = torch.tensor(seq.token_ids[begin + 1 : stop + 1], device=self.device)
                    found = _logprobs(logits, tokens, [num_best] * (stop - begin))
                    entries += zip(range(begin + 1, stop + 1), found)
            first_row += end - start


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
