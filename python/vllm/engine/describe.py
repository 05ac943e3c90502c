"""Writes the scheduler's chunks into the buffer that describes a step to the executor."""

from __future__ import annotations

from array import array
from typing import Dict, List, NamedTuple, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.constraints import FORBIDDEN, Bias
from vllm.engine.executor import Executor
from vllm.engine.masks import MaskedRow, MaskMaker
from vllm.engine.scheduler import Chunk
from vllm.engine.sequence import Sequence
from vllm.engine.step_input import PromptLogprobs, SizeClass, StepBuffers, StepInput


class Row(NamedTuple):
    """A row of logits. num_drawn: tokens that its sequence has sampled before."""

    seq: Sequence
    num_drawn: int


class Numbers:
    """The integers from 0 up to `end`, to be copied, which takes a hundredth of the time that
    creating them takes. 8 bytes each."""

    def __init__(self, end: int) -> None:
        self._numbers = _count(end)

    def between(self, start: int, end: int) -> memoryview:
        """int64 [end - start]; not to be written."""
        if end > len(self._numbers):
            self._numbers = _count(2 * end)
        return self._numbers[start:end]


def _count(end: int) -> memoryview:
    return memoryview(array("q", list(range(end))))  # a list: twice as fast as a range


class StepWriter:
    """Writes the inputs of one step after another for an executor. vocab_size: the model's."""

    def __init__(self, executor: Executor, vocab_size: int) -> None:
        self._block_size = executor.block_size
        self._max_rows = executor.max_rows
        self._vocab_size = vocab_size
        self._buffers = StepBuffers(executor.allocate, executor.room)
        self._masks = MaskMaker(vocab_size, executor.allocate)
        self._numbers = Numbers(executor.num_blocks * executor.block_size)  # all slots

    def write(self, chunks: SequenceOf[Chunk]) -> StepInput:
        """The step that computes these chunks. Its buffer is reused by the call after the next."""
        plain = all(chunk.seq.is_plain for chunk in chunks)  # greedy rows need no parameters
        rows = [] if plain else _rows(chunks)
        num_tokens = sum([chunk.end - chunk.start for chunk in chunks])
        num_rows = sum([chunk.num_sampled for chunk in chunks])
        special = [(index, row) for index, row in enumerate(rows) if row.seq.is_special]
        changes = [
            (index, _biases(row))
            for index, row in special
            if row.num_drawn < row.seq.params.min_tokens
            or (row.seq.constraints is not None and row.seq.constraints.has_biases)
        ]
        penalised = [row for _, row in special if row.seq.counter >= 0]
        fresh = [(row.seq, _uses(row)) for row in penalised if not row.seq.is_counted]
        step = self._buffers.take(
            SizeClass.for_counts(
                num_tokens,
                len(chunks),
                max([len(chunk.seq.block_table) for chunk in chunks]),
                num_rows,
                sum([len(biases) for _, biases in changes]),
                sum([1 + len(uses) for _, uses in fresh]),
            )
        )
        step.num_tokens, step.num_sequences, step.num_rows = num_tokens, len(chunks), num_rows
        if num_tokens == len(chunks) == num_rows:
            self._write_generating(step, chunks)
        else:
            self._write_chunks(step, chunks)
        self._write_sampling(step, rows)
        for index, (seq, _) in special:
            if seq.params.logprobs is not None:
                step.logprobs.append((index, seq.params.logprobs))
        if penalised:
            _write_penalties(step, rows)
        if fresh:
            _write_fresh(step, fresh)
        _write_changes(step, changes)
        step.masks = self._masks.masks(
            [
                MaskedRow(index, seq, seq.constraints)
                for index, (seq, _) in special
                if seq.constraints is not None and seq.constraints.has_mask
            ]
        )
        if step.masks is not None:
            step.due[0] = step.masks.number
        return step

    def _write_generating(self, step: StepInput, chunks: SequenceOf[Chunk]) -> None:
        """Writes what `_write_chunks` would, faster: each sequence has one token, sampled."""
        count, block_size, width = len(chunks), self._block_size, step.layout.size.blocks
        starts = [chunk.start for chunk in chunks]
        tables = [chunk.seq.block_table for chunk in chunks]
        step.positions[:count] = array("q", starts)
        step.slots[:count] = array(
            "q",
            [
                table[start // block_size] * block_size + start % block_size
                for table, start in zip(tables, starts)
            ],
        )
        step.context_lens[:count] = array("i", [start + 1 for start in starts])
        step.query_starts[: count + 1] = array("i", range(count + 1))
        step.rows[:count] = array("q", range(count))
        block_tables = step.block_tables
        for at, table in zip(range(0, count * width, width), tables):
            block_tables[at : at + len(table)] = table
        step.sources[:count] = array("q", [chunk.source for chunk in chunks])
        for index, chunk in enumerate(chunks):
            if chunk.source < 0:
                step.token_ids[index] = chunk.seq.token_ids[chunk.start]
                step.sources[index] = self._max_rows + index

    def _write_chunks(self, step: StepInput, chunks: SequenceOf[Chunk]) -> None:
        token_ids, positions, slots = step.token_ids, step.positions, step.slots
        sources, max_rows, numbers = step.sources, self._max_rows, self._numbers
        block_tables, width = step.block_tables, step.layout.size.blocks
        context_lens, query_starts, rows = step.context_lens, step.query_starts, step.rows
        block_size = self._block_size
        token = row = table = 0
        query_starts[0] = 0
        for index, chunk in enumerate(chunks):
            seq, start, end, num_sampled, source = chunk
            if seq.prompt_logprobs_wanted:
                _want_prompt_logprobs(step, index, token, chunk)
            blocks = seq.block_table
            block_tables[table : table + len(blocks)] = blocks
            table += width
            if end - start == 1:  # most chunks: decoding
                if source < 0:
                    token_ids[token] = seq.token_ids[start]
                    sources[token] = max_rows + token
                else:
                    sources[token] = source
                positions[token] = start
                slots[token] = blocks[start // block_size] * block_size + start % block_size
                token += 1
            else:
                stop = token + end - start
                token_ids[token:stop] = array("q", seq.token_ids[start:end])
                sources[token:stop] = numbers.between(max_rows + token, max_rows + stop)
                positions[token:stop] = numbers.between(start, end)
                self._write_slots(slots, token, blocks, start, end)
                token = stop
            context_lens[index] = end
            query_starts[index + 1] = token
            for sampled in range(token - num_sampled, token):
                rows[row] = sampled
                row += 1

    def _write_slots(
        self, slots: memoryview, at: int, blocks: SequenceOf[int], start: int, end: int
    ) -> None:
        block_size, between = self._block_size, self._numbers.between
        while start < end:
            index, offset = divmod(start, block_size)
            count = min(block_size - offset, end - start)
            first = blocks[index] * block_size + offset
            slots[at : at + count] = between(first, first + count)
            at += count
            start += count

    def _write_sampling(self, step: StepInput, rows: SequenceOf[Row]) -> None:
        params = [seq.params for seq, _ in rows]
        temperatures = [0.0 if each.is_greedy else each.temperature for each in params]
        if not any(temperatures):
            return
        count, vocab_size = len(rows), self._vocab_size
        top_k = [each.top_k if 0 < each.top_k < vocab_size else 0 for each in params]
        top_p, min_p = [each.top_p for each in params], [each.min_p for each in params]
        step.uses_temperatures = True
        step.uses_top_k, step.uses_top_p, step.uses_min_p = any(top_k), min(top_p) < 1, any(min_p)
        step.temperatures[:count] = array("f", temperatures)
        step.seeds[:count] = array("q", [seq.seed for seq, _ in rows])
        step.draws[:count] = array("q", [num_drawn for _, num_drawn in rows])
        step.top_k[:count] = array("q", top_k)
        step.top_p[:count] = array("f", top_p)
        step.min_p[:count] = array("f", min_p)


def _rows(chunks: SequenceOf[Chunk]) -> List[Row]:
    """The logits rows of all chunks: one for each of their last `num_sampled` tokens."""
    rows = []
    for seq, _, end, num_sampled, _ in chunks:
        if num_sampled == 1:
            rows.append(Row(seq, end - seq.num_prompt_tokens))
            continue
        for last in range(end - num_sampled + 1, end + 1):
            rows.append(Row(seq, last - seq.num_prompt_tokens))
    return rows


def _want_prompt_logprobs(step: StepInput, sequence: int, row: int, chunk: Chunk) -> None:
    # The hidden state of a token predicts the token after it.
    seq, start = chunk.seq, chunk.start
    last = min(chunk.end, seq.num_prompt_tokens - 1)
    if start < last:
        targets = seq.token_ids[start + 1 : last + 1]
        num_best = seq.params.prompt_logprobs or 0
        step.prompt_logprobs.append(PromptLogprobs(sequence, row, targets, num_best))


def _biases(row: Row) -> List[Bias]:
    seq, num_drawn = row
    biases: List[Bias] = []
    if seq.constraints is not None:
        start = seq.num_prompt_tokens
        biases = seq.constraints.biases(seq.token_ids, start, start + num_drawn)
    if num_drawn < seq.params.min_tokens:
        biases = [*biases, *(Bias(token, FORBIDDEN) for token in seq.ending_token_ids())]
    return biases


def _uses(row: Row) -> Dict[int, int]:
    """How often each token of the sequence occurs in its output, without the row's own input token,
    which the step itself counts on the device."""
    seq, num_drawn = row
    first = seq.num_prompt_tokens
    end = first + num_drawn - 1
    uses = dict.fromkeys(seq.token_ids[: min(first, end)], 0)
    for token in seq.token_ids[first:end]:
        uses[token] = uses.get(token, 0) + 1
    return uses


def _write_penalties(step: StepInput, rows: SequenceOf[Row]) -> None:
    step.uses_penalties = True
    count, params = len(rows), [seq.params for seq, _ in rows]
    step.counters[:count] = array("q", [seq.counter for seq, _ in rows])
    step.counts[:count] = array("q", [num_drawn > 0 for _, num_drawn in rows])
    step.repetition[:count] = array("f", [each.repetition_penalty for each in params])
    step.presence[:count] = array("f", [each.presence_penalty for each in params])
    step.frequency[:count] = array("f", [each.frequency_penalty for each in params])


def _write_fresh(step: StepInput, fresh: SequenceOf[Tuple[Sequence, Dict[int, int]]]) -> None:
    """Writes the initial token counts of sequences sampled for the first time since admission."""
    step.num_fresh = len(fresh)
    step.fresh_starts[0] = end = 0
    for index, (seq, uses) in enumerate(fresh):
        seq.is_counted = True
        start, end = end, end + len(uses)
        step.fresh_counters[index] = seq.counter
        step.fresh_starts[index + 1] = end
        step.fresh_tokens[start:end] = array("q", uses)
        step.fresh_counts[start:end] = array("q", uses.values())


def _write_changes(step: StepInput, changes: SequenceOf[Tuple[int, List[Bias]]]) -> None:
    at = 0
    for row, biases in changes:
        for token, amount, after in biases:
            step.change_rows[at] = row
            step.change_tokens[at] = token
            step.change_amounts[at] = amount
            step.change_after[at] = after
            at += 1
    step.num_changes = at
