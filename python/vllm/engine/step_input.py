"""The input of a step, as one buffer.

Everything that the device needs for a step is in one buffer, at offsets that depend only on the
step's size class. So it takes one copy to the device, a CUDA graph that was captured for a size
class serves all its steps, and double buffering lets the next step be written while one runs.
"""

from __future__ import annotations

from array import array
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from vllm.engine.masks import StepMasks

_ALIGNMENT = 16  # bytes: enough for every type, and for kernels that load 16 at a time
_SMALLEST = 16  # capacities below this save nothing


class SizeClass(NamedTuple):
    """The capacity of a buffer.

    tokens: tokens that the model computes.
    sequences: sequences that these belong to.
    blocks: KV blocks per sequence.
    rows: tokens whose logits are sampled.
    changes: biases on single logits.
    counted: distinct tokens of sequences whose token counts begin, plus one for each of these
        sequences.
    """

    tokens: int
    sequences: int
    blocks: int
    rows: int
    changes: int
    counted: int

    @classmethod
    def for_counts(cls, *counts: int) -> SizeClass:
        """The smallest class that holds these counts.

        Capacities are powers of two, so that there are few classes. The width of block tables is
        the smallest capacity times a power of eight: with powers of two, all CUDA graphs would be
        captured again each time the longest context doubles.
        """
        size = cls(*[capacity(count) for count in counts])
        blocks = _SMALLEST
        while blocks < size.blocks:
            blocks *= 8
        return size._replace(blocks=blocks)


def capacity(count: int) -> int:
    """`count` rounded up to a power of two, at least `_SMALLEST`; 0 for 0."""
    return max(_SMALLEST, 1 << (count - 1).bit_length()) if count else 0


# Each array of the buffer: its type code and its length.
_ARRAYS: Dict[str, Tuple[str, Callable[[SizeClass], int]]] = {
    "token_ids": ("q", lambda size: size.tokens),
    "sources": ("q", lambda size: size.tokens),
    "positions": ("q", lambda size: size.tokens),
    "slots": ("q", lambda size: size.tokens),
    "block_tables": ("i", lambda size: size.sequences * size.blocks),
    "context_lens": ("i", lambda size: size.sequences),
    "query_starts": ("i", lambda size: size.sequences + 1),
    "rows": ("q", lambda size: size.rows),
    "temperatures": ("f", lambda size: size.rows),
    "top_k": ("q", lambda size: size.rows),
    "top_p": ("f", lambda size: size.rows),
    "min_p": ("f", lambda size: size.rows),
    "seeds": ("q", lambda size: size.rows),
    "draws": ("q", lambda size: size.rows),
    "counters": ("q", lambda size: size.rows),
    "counts": ("q", lambda size: size.rows),
    "repetition": ("f", lambda size: size.rows),
    "presence": ("f", lambda size: size.rows),
    "frequency": ("f", lambda size: size.rows),
    "fresh_counters": ("q", lambda size: size.rows if size.counted else 0),
    "fresh_starts": ("q", lambda size: size.rows + 1 if size.counted else 0),
    "fresh_tokens": ("q", lambda size: size.counted),
    "fresh_counts": ("q", lambda size: size.counted),
    "change_rows": ("q", lambda size: size.changes),
    "change_tokens": ("q", lambda size: size.changes),
    "change_amounts": ("f", lambda size: size.changes),
    "change_after": ("q", lambda size: size.changes),
    "due": ("q", lambda size: 1),
}


class Field(NamedTuple):
    """An array of the buffer. offset: in bytes."""

    typecode: str
    offset: int
    length: int


class StepLayout:
    """The offsets of the arrays in a buffer of a size class.

    room: bytes after the arrays for the executor's own data; see `Executor.room`.
    """

    def __init__(self, size: SizeClass, room: int = 0) -> None:
        self.size = size
        self.fields: Dict[str, Field] = {}
        offset = 0
        for name, (typecode, length_of) in _ARRAYS.items():
            field = Field(typecode, offset, length_of(size))
            self.fields[name] = field
            offset += _aligned(field.length * array(typecode).itemsize)
        self.room_offset = offset
        self.nbytes = offset + _aligned(room)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


class PromptLogprobs(NamedTuple):
    """Consecutive tokens of a step whose logits give log-probabilities of the prompt.

    sequence: the index of the sequence in the step.
    row: the index of the first token in the step; its logits predict the token after it.
    targets: the tokens to predict, one after another.
    num_best: how many of the most likely tokens to return beside each target.
    """

    sequence: int
    row: int
    targets: List[int]
    num_best: int


class StepInput:
    """One step for an `Executor`, in one of the engine's buffers.

    token_ids, positions: int64, of the tokens of all sequences, one sequence after another.
    sources: int64, where to load each token id from: the executor's `max_rows` plus its index in
        `token_ids`; or, for a token that only the device knows yet, the row of the previous step
        that samples it.
    slots: int64, block * block_size + offset where a token's key and value are stored.
    block_tables: int32 [sequences, blocks]; entries after a sequence's last KV block are not read.
    context_lens: int32, tokens of each sequence, this step's included.
    query_starts: int32, sequence i has the tokens from query_starts[i] up to query_starts[i + 1].
    rows: int64, the tokens whose logits are sampled.
    temperatures, top_k, top_p, min_p, seeds, draws: how each row is sampled; see `ops.sample`.
    counters, counts, repetition, presence, frequency: penalties of each row; see `ops.penalize`.
        The device counts the tokens of a sequence in every step that samples it.
    fresh_counters, fresh_starts, fresh_tokens, fresh_counts: the initial token counts of sequences;
        see `ops.count_tokens`.
    change_rows, change_tokens, change_amounts, change_after: see `ops.bias_logits`.
    due: int64 [1], the number of the step's masks; not written if there are none.

    num_tokens, num_sequences, num_rows, num_fresh, num_changes: used lengths of the arrays.
    uses_temperatures, uses_top_k, uses_top_p, uses_min_p, uses_penalties: whether any row uses
        these parameters. If not, the arrays of temperatures or penalties are not written.
    logprobs: (row, number of most likely tokens) for the rows whose log-probabilities are
        returned; a row is an index into `rows`.
    prompt_logprobs: the tokens that give log-probabilities of prompts.
    masks: token masks of constrained rows; see `Executor.sample`. None without any.
    """

    token_ids: memoryview
    sources: memoryview
    positions: memoryview
    slots: memoryview
    block_tables: memoryview
    context_lens: memoryview
    query_starts: memoryview
    rows: memoryview
    temperatures: memoryview[float]
    top_k: memoryview
    top_p: memoryview[float]
    min_p: memoryview[float]
    seeds: memoryview
    draws: memoryview
    counters: memoryview
    counts: memoryview
    repetition: memoryview[float]
    presence: memoryview[float]
    frequency: memoryview[float]
    fresh_counters: memoryview
    fresh_starts: memoryview
    fresh_tokens: memoryview
    fresh_counts: memoryview
    change_rows: memoryview
    change_tokens: memoryview
    change_amounts: memoryview[float]
    change_after: memoryview
    due: memoryview

    def __init__(self, layout: StepLayout, memory: memoryview) -> None:
        self.layout = layout
        self.memory = memory
        for name, (typecode, offset, length) in layout.fields.items():
            nbytes = length * array(typecode).itemsize
            part: Any = memory[offset : offset + nbytes]
            setattr(self, name, part.cast(typecode))
        self.clear()

    def clear(self) -> None:
        """Resets the buffer for another step."""
        self.num_tokens = self.num_sequences = self.num_rows = 0
        self.num_fresh = self.num_changes = 0
        self.uses_temperatures = self.uses_penalties = False
        self.uses_top_k = self.uses_top_p = self.uses_min_p = False
        self.logprobs: List[Tuple[int, int]] = []
        self.prompt_logprobs: List[PromptLogprobs] = []
        self.masks: Optional[StepMasks] = None

    def pad(self, tokens: int, sequences: int, rows: int, max_rows: int) -> None:
        """Pads the step to these counts for a CUDA graph, which computes a fixed number of each.

        Slot and counter -1 make the kernels skip padding. Padding tokens belong to the first
        padding sequence, and padding rows are of the first token; neither is ever read. Logit
        changes are padded to the array's full length, with row -1.
        """
        at, more = self.num_tokens, tokens - self.num_tokens
        if more:
            for name in ("token_ids", "positions"):
                getattr(self, name)[at:tokens] = array("q", [0]) * more
            self.sources[at:tokens] = array("q", [max_rows + at]) * more  # token id 0
            self.slots[at:tokens] = array("q", [-1]) * more
        at, width, block = self.num_sequences, self.layout.size.blocks, array("i", [0])
        if sequences > at:
            self.context_lens[at:sequences] = array("i", [max(1, more)]) * (sequences - at)
            self.query_starts[at + 1 : sequences + 1] = array("i", [tokens]) * (sequences - at)
            for start in range(at * width, sequences * width, width):
                self.block_tables[start : start + width] = block * width
        at, more = self.num_rows, rows - self.num_rows
        if more:
            for name in ("rows", "top_k", "seeds", "draws"):
                getattr(self, name)[at:rows] = array("q", [0]) * more
            for name in ("temperatures", "min_p"):
                getattr(self, name)[at:rows] = array("f", [0]) * more
            self.top_p[at:rows] = array("f", [1]) * more
            self.counters[at:rows] = array("q", [-1]) * more
        changes = self.layout.size.changes - self.num_changes
        if changes:
            self.change_rows[self.num_changes :] = array("q", [-1]) * changes
            self.change_tokens[self.num_changes :] = array("q", [0]) * changes


class StepBuffers:
    """Double-buffered memory of steps: one buffer is written while the other is read.

    allocate: returns that many writable bytes, which a device can copy from.
    room: the argument `room` of `StepLayout` for a size class.
    """

    def __init__(
        self, allocate: Callable[[int], memoryview], room: Callable[[SizeClass], int]
    ) -> None:
        self._allocate = allocate
        self._room = room
        self._layouts: Dict[SizeClass, StepLayout] = {}
        self._memory = [memoryview(b""), memoryview(b"")]
        self._steps: List[Dict[SizeClass, StepInput]] = [{}, {}]
        self._turn = 0

    def take(self, size: SizeClass) -> StepInput:
        """A cleared buffer. The call after the next reuses its memory."""
        turn = self._turn = 1 - self._turn
        step = self._steps[turn].get(size)
        if step is None:
            step = self._steps[turn][size] = self._make(size, turn)
        step.clear()
        return step

    def _make(self, size: SizeClass, turn: int) -> StepInput:
        layout = self._layouts.setdefault(size, StepLayout(size, self._room(size)))
        if layout.nbytes > len(self._memory[turn]):
            self._steps[turn].clear()  # they are views of the old memory
            self._memory[turn] = self._allocate(1 << (layout.nbytes - 1).bit_length())
        return StepInput(layout, self._memory[turn])
