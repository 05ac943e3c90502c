"""Token masks of constrained rows: a second buffer of a step, filled later than the first.

A mask is not needed before the logits. A grammar's mask depends on the previous token, which is
still being sampled when the step's model is launched. So masks are filled once that token is known,
while a GPU runs the model, in a separate buffer, which the GPU reads.

The buffer has places for a power of two of masks, so that few CUDA graphs serve all steps.
"""

from __future__ import annotations

from array import array
from typing import Callable, List, NamedTuple, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.constraints import Constraints
from vllm.engine.sequence import Sequence
from vllm.text.grammars import GrammarError, fill_masks


class MaskedRow(NamedTuple):
    """A row of logits with a mask, its sequence, and that sequence's constraints."""

    row: int
    seq: Sequence
    constraints: Constraints


class FailedGrammar(NamedTuple):
    """A sequence whose grammar has failed, and the error."""

    seq: Sequence
    error: GrammarError


class StepMasks:
    """The token masks of a step in one buffer: the row indices (int64), then the masks.

    number: of the step, among those of the engine that have masks; from 1.
    most: the number of rows that want one. places: of masks in the buffer, at least as many.
    rows: the logits row of each mask, -1 for an unused mask; empty before `fill`. In the buffer
        -1 also stands for all places behind them.
    num_words: 32-bit words of a mask; bit i (lowest first) is set if token i may be sampled.
    bits_offset: where the first mask starts, in bytes; the others follow it.
    nbytes: used bytes of the memory; 0 if no row has a mask.
    memory: the buffer.
    """

    def __init__(
        self, number: int, wanted: SequenceOf[MaskedRow], num_words: int, memory: memoryview
    ) -> None:
        self.number = number
        self.most = len(wanted)
        self.places = _places(len(wanted))
        self.rows: List[int] = []
        self.num_words = num_words
        self.memory = memory
        self._wanted = wanted

    @property
    def bits_offset(self) -> int:
        return 8 * self.places  # a multiple of 16: kernels may load 16 bytes at a time

    @property
    def nbytes(self) -> int:
        return self.bits_offset + 4 * self.num_words * len(self.rows) if self.rows else 0

    def fill(
        self,
        meanwhile: Optional[Callable[[], None]] = None,
        ready: Callable[[], None] = lambda: None,
    ) -> List[FailedGrammar]:
        """Writes the masks, for the tokens that the sequences have now. Sequences that have ended
        meanwhile get no mask, nor do those whose grammar fails; the latter are returned.

        meanwhile: called once, while the masks of grammars are made. It may change neither the
            sequences' tokens nor what `MaskMaker` has allocated.
        ready: called as soon as the masks are there, perhaps in another thread, while `meanwhile`
            still runs.
        """
        live = [each for each in self._wanted if not each.seq.is_finished]
        nbytes = 4 * self.num_words
        bits = self.memory[self.bits_offset :][: nbytes * len(live)]
        grammars = [
            (each.constraints.grammar, place)
            for place, each in enumerate(live)
            if each.constraints.grammar is not None
        ]
        failed: List[FailedGrammar] = []

        def finish(errors: SequenceOf[Tuple[int, GrammarError]]) -> None:
            rows = [each.row for each in live]
            for place, error in errors:
                rows[place] = -1
                failed.append(FailedGrammar(live[place].seq, error))
            for place, (_, _, constraints) in enumerate(live):
                if constraints.allowed is not None:
                    mask = bits[place * nbytes : (place + 1) * nbytes]
                    _allow(constraints.allowed, mask, also=constraints.grammar is not None)
            unused = [-1] * (self.places - len(rows))
            self.memory[: self.bits_offset] = array("q", rows + unused).tobytes()
            self.rows = rows  # last: after an interruption there are no masks
            ready()

        fill_masks(grammars, nbytes, bits, finish, meanwhile)
        return failed


class MaskMaker:
    """Allocates the masks of one step after another in the same memory. That is safe because a
    step's masks have been copied to the device when its tokens are known, and the next step's masks
    are filled only then.

    allocate: returns that many writable bytes, which a device can copy from.
    """

    def __init__(self, vocab_size: int, allocate: Callable[[int], memoryview]) -> None:
        self._num_words = -(-vocab_size // 32)
        self._allocate = allocate
        self._memory = memoryview(b"")
        self._count = 0

    def masks(self, wanted: SequenceOf[MaskedRow]) -> Optional[StepMasks]:
        """The masks of rows, not filled yet; None without any."""
        if not wanted:
            return None
        nbytes = (8 + 4 * self._num_words) * _places(len(wanted))
        if nbytes > len(self._memory):
            self._memory = self._allocate(1 << (nbytes - 1).bit_length())
        self._count += 1
        return StepMasks(self._count, wanted, self._num_words, self._memory)


def _places(count: int) -> int:
    """A power of two, at least 2."""
    return max(2, 1 << (count - 1).bit_length())


def _allow(allowed: bytes, mask: memoryview, *, also: bool) -> None:
    """Writes a mask of allowed tokens. also: intersects it with the mask that is there."""
    if also:
        both = int.from_bytes(mask, "little") & int.from_bytes(allowed, "little")
        allowed = both.to_bytes(len(mask), "little")
    mask[:] = allowed
