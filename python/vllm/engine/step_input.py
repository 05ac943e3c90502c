"""What a step is, as one piece of memory.

Everything that the device needs to know of a step lies in one buffer, at offsets that depend on the
step's size class alone: it goes to the device in one copy, a CUDA graph that was captured for a
class serves all its steps, and the buffer of the next step can be filled while one runs. Buffers
are used over and over.
"""

from __future__ import annotations

from array import array
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

_ALIGNMENT = 16  # bytes: enough for every type, and for kernels that load 16 at a time
_SMALLEST = 16  # smaller capacities than this save nothing


class SizeClass(NamedTuple):
    """How much room a buffer has.

    tokens: that the model computes.
    sequences: that they belong to.
    blocks: of the cache, per sequence.
    rows: tokens whose logits are sampled.
    changes: single logits that penalties change.
    """

    tokens: int
    sequences: int
    blocks: int
    rows: int
    changes: int

    @classmethod
    def for_counts(cls, *counts: int) -> SizeClass:
        """The class for as many of each: powers of two, so that there are few classes."""
        return cls(*[capacity(count) for count in counts])


def capacity(count: int) -> int:
    """The power of two, `_SMALLEST` or more, that holds `count`; 0 for none."""
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
    "change_rows": ("q", lambda size: size.changes),
    "change_tokens": ("q", lambda size: size.changes),
    "change_repetition": ("f", lambda size: size.changes),
    "change_subtract": ("f", lambda size: size.changes),
}


class Field(NamedTuple):
    """An array of the buffer. offset: in bytes."""

    typecode: str
    offset: int
    length: int


class StepLayout:
    """Where everything lies in the buffer of a size class.

    room: bytes behind it for what the executor itself adds; see `Executor.room`.
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
    """Tokens of the step that give log-probabilities of a prompt.

    sequence: which of the step's sequences this is.
    row: the first of the tokens; the logits of each predict the token after it.
    targets: the tokens that they are to predict, one after another.
    num_best: how many of the most likely tokens are wanted beside each.
    """

    sequence: int
    row: int
    targets: List[int]
    num_best: int


class StepInput:
    """One step for an `Executor`, in one of the engine's buffers.

    token_ids, positions: int64, of the tokens of all sequences, one after the other.
    sources: int64, where each token id is: `max_rows` of the executor plus its index in
        `token_ids`; or, for a token that only the device knows yet, the row of the step before
        that has sampled it.
    slots: int64, block * block_size + offset where a token's key and value are stored.
    block_tables: int32 [sequences, blocks]; what lies behind a sequence's last block is not read.
    context_lens: int32, tokens of each sequence, those of this step included.
    query_starts: int32, sequence i has the tokens from query_starts[i] up to query_starts[i + 1].
    rows: int64, the tokens whose logits are sampled.
    temperatures, top_k, top_p, min_p, seeds, draws: how each row is sampled; see `ops.sample`.
    change_rows, change_tokens, change_repetition, change_subtract: see `ops.penalize`.

    num_tokens, num_sequences, num_rows, num_changes: how much of the arrays this step uses.
    uses_temperatures, uses_top_k, uses_top_p, uses_min_p: whether any row asks for it. Without
        temperatures, the arrays of sampling are not even filled.
    logprobs: (row, how many of the most likely tokens), of the rows whose log-probabilities are
        wanted; a row is an index of `rows`.
    prompt_logprobs: where those of prompts are.
    masks: (row, which tokens may be drawn: a bit for each, the lowest first), of the rows where
        not all may.
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
    change_rows: memoryview
    change_tokens: memoryview
    change_repetition: memoryview[float]
    change_subtract: memoryview[float]

    def __init__(self, layout: StepLayout, memory: memoryview) -> None:
        self.layout = layout
        self.memory = memory
        for name, (typecode, offset, length) in layout.fields.items():
            nbytes = length * array(typecode).itemsize
            part: Any = memory[offset : offset + nbytes]
            setattr(self, name, part.cast(typecode))
        self.clear()

    def clear(self) -> None:
        """Forgets the step that was described here last."""
        self.num_tokens = self.num_sequences = self.num_rows = self.num_changes = 0
        self.uses_temperatures = False
        self.uses_top_k = self.uses_top_p = self.uses_min_p = False
        self.logprobs: List[Tuple[int, int]] = []
        self.prompt_logprobs: List[PromptLogprobs] = []
        self.masks: List[Tuple[int, bytes]] = []

    def pad(self, count: int, max_rows: int) -> None:
        """Adds sequences, up to `count`, that change nothing: a graph computes a fixed number.

        Only where each sequence has one token, which is sampled. Their keys and values are stored
        nowhere, what is sampled for them is nobody's. All the room for changes is used: of those
        that are added, none is of a row.
        """
        start, more = self.num_sequences, count - self.num_sequences
        zeros, ones = array("q", [0]) * more, array("i", [1]) * more
        for name in ("token_ids", "positions", "top_k", "seeds", "draws"):
            getattr(self, name)[start:count] = zeros
        self.sources[start:count] = array("q", [max_rows]) * more  # any token that there is
        self.slots[start:count] = array("q", [-1]) * more
        self.context_lens[start:count] = ones
        self.query_starts[start + 1 : count + 1] = array("i", range(start + 1, count + 1))
        self.rows[start:count] = array("q", range(start, count))
        for name in ("temperatures", "min_p"):
            getattr(self, name)[start:count] = array("f", [0]) * more
        self.top_p[start:count] = array("f", [1]) * more
        width = self.layout.size.blocks
        for sequence in range(start, count):
            self.block_tables[sequence * width] = 0
        changes = self.layout.size.changes - self.num_changes
        if changes:
            self.change_rows[self.num_changes :] = array("q", [-1]) * changes


class StepBuffers:
    """The memory of steps: two buffers in turns, so that one is filled while the other is read.

    allocate: gives writable memory of that many bytes that a device can copy from.
    room: what `StepLayout` takes, for a size class.
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
        """A cleared buffer. It is used again at the second call from now."""
        turn = self._turn = 1 - self._turn
        step = self._steps[turn].get(size)
        if step is None:
            step = self._steps[turn][size] = self._make(size, turn)
        step.clear()
        return step

    def _make(self, size: SizeClass, turn: int) -> StepInput:
        layout = self._layouts.setdefault(size, StepLayout(size, self._room(size)))
        if layout.nbytes > len(self._memory[turn]):
            self._steps[turn].clear()  # they lie in memory that is about to be left
            self._memory[turn] = self._allocate(1 << (layout.nbytes - 1).bit_length())
        return StepInput(layout, self._memory[turn])
