"""From the scheduler's chunks to the buffer that describes a step."""

from __future__ import annotations

from array import array
from typing import FrozenSet
from typing import Sequence as SequenceOf

from vllm.engine.executor import Executor
from vllm.engine.scheduler import Chunk
from vllm.engine.sequence import Sequence
from vllm.engine.step_input import PromptLogprobs, SizeClass, StepBuffers, StepInput

_FORBIDDEN = float("inf")


class StepWriter:
    """Describes one step after another to an executor. vocab_size: the model's."""

    def __init__(self, executor: Executor, vocab_size: int) -> None:
        self._block_size = executor.block_size
        self._vocab_size = vocab_size
        self._buffers = StepBuffers(executor.allocate, executor.room)

    def write(self, chunks: SequenceOf[Chunk]) -> StepInput:
        """One step of these chunks; the buffer serves again at the second call from now."""
        seqs = [chunk.seq for chunk in chunks for _ in range(chunk.num_sampled)]
        forbidden = [_forbidden_tokens(seq) for seq in seqs]
        step = self._buffers.take(
            SizeClass.for_counts(
                sum([chunk.end - chunk.start for chunk in chunks]),
                len(chunks),
                max([len(chunk.seq.block_table) for chunk in chunks]),
                len(seqs),
                sum(map(_num_changes, seqs, forbidden)),
            )
        )
        self._write_tokens(step, chunks)
        self._write_sampling(step, seqs)
        for row, (seq, tokens) in enumerate(zip(seqs, forbidden)):
            if tokens or seq.penalties is not None:
                _write_changes(step, row, seq, tokens)
        return step

    def _write_tokens(self, step: StepInput, chunks: SequenceOf[Chunk]) -> None:
        token_ids, positions, slots = step.token_ids, step.positions, step.slots
        block_tables, width = step.block_tables, step.layout.size.blocks
        context_lens, query_starts, rows = step.context_lens, step.query_starts, step.rows
        block_size = self._block_size
        token = row = table = 0
        query_starts[0] = 0
        for index, chunk in enumerate(chunks):
            seq, start, end, num_sampled = chunk
            if seq.prompt_logprobs_wanted:
                _want_prompt_logprobs(step, index, token, chunk)
            blocks = seq.block_table
            block_tables[table : table + len(blocks)] = blocks
            table += width
            if end - start == 1:  # most chunks: a sequence that generates
                token_ids[token] = seq.token_ids[start]
                positions[token] = start
                slots[token] = blocks[start // block_size] * block_size + start % block_size
                token += 1
            else:
                stop = token + end - start
                token_ids[token:stop] = array("q", seq.token_ids[start:end])
                positions[token:stop] = array("q", range(start, end))
                self._write_slots(slots, token, blocks, start, end)
                token = stop
            context_lens[index] = end
            query_starts[index + 1] = token
            for sampled in range(token - num_sampled, token):
                rows[row] = sampled
                row += 1
        step.num_tokens, step.num_sequences, step.num_rows = token, len(chunks), row

    def _write_slots(
        self, slots: memoryview, at: int, blocks: SequenceOf[int], start: int, end: int
    ) -> None:
        block_size = self._block_size
        while start < end:
            index, offset = divmod(start, block_size)
            count = min(block_size - offset, end - start)
            first = blocks[index] * block_size + offset
            slots[at : at + count] = array("q", range(first, first + count))
            at += count
            start += count

    def _write_sampling(self, step: StepInput, seqs: SequenceOf[Sequence]) -> None:
        """seqs: one for each row."""
        vocab_size = self._vocab_size
        for row, seq in enumerate(seqs):
            num_best = seq.params.logprobs
            if num_best is not None:
                step.logprobs.append((row, num_best))
            step.uses_temperatures |= not seq.params.is_greedy
        if not step.uses_temperatures:
            return
        temperatures, seeds, draws = step.temperatures, step.seeds, step.draws
        tops_k, tops_p, mins_p = step.top_k, step.top_p, step.min_p
        for row, seq in enumerate(seqs):
            params = seq.params
            temperatures[row] = 0.0 if params.is_greedy else params.temperature
            seeds[row] = seq.seed
            draws[row] = seq.num_output_tokens
            top_k = params.top_k if 0 < params.top_k < vocab_size else 0
            tops_k[row], tops_p[row], mins_p[row] = top_k, params.top_p, params.min_p
            step.uses_top_k |= top_k > 0
            step.uses_top_p |= params.top_p < 1
            step.uses_min_p |= params.min_p > 0


def _want_prompt_logprobs(step: StepInput, sequence: int, row: int, chunk: Chunk) -> None:
    # The token at a position is predicted by the hidden state before it.
    seq, start = chunk.seq, chunk.start
    last = min(chunk.end, seq.num_prompt_tokens - 1)
    if start < last:
        targets = seq.token_ids[start + 1 : last + 1]
        num_best = seq.params.prompt_logprobs or 0
        step.prompt_logprobs.append(PromptLogprobs(sequence, row, targets, num_best))


def _forbidden_tokens(seq: Sequence) -> FrozenSet[int]:
    """Tokens that must not come next."""
    return frozenset() if seq.may_end else seq.ending_token_ids()


def _num_changes(seq: Sequence, forbidden: FrozenSet[int]) -> int:
    penalties = seq.penalties
    if penalties is None:
        return len(forbidden)
    return len(penalties.token_ids) + sum(penalties.index(token) < 0 for token in forbidden)


def _write_changes(step: StepInput, row: int, seq: Sequence, forbidden: FrozenSet[int]) -> None:
    """One change for each token, forbidden or penalised or both: no token may come twice."""
    start = end = step.num_changes
    penalties, repetition = seq.penalties, 1.0
    if penalties is not None:  # there may be thousands of tokens: none is touched in Python
        repetition = penalties.repetition
        end += len(penalties.token_ids)
        step.change_tokens[start:end] = penalties.token_ids
        step.change_subtract[start:end] = penalties.subtract
    for token in forbidden:
        index = -1 if penalties is None else penalties.index(token)
        entry = end if index < 0 else start + index
        step.change_tokens[entry] = token
        step.change_subtract[entry] = _FORBIDDEN
        end += index < 0
    step.change_rows[start:end] = array("q", [row]) * (end - start)
    step.change_repetition[start:end] = array("f", [repetition]) * (end - start)
    step.num_changes = end
