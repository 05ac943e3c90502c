"""Token masks of constrained rows: a second buffer of a step, filled later than the first.

A mask is not needed before the logits. A grammar's mask depends on the previous token, which is
still being sampled when the step's model is launched. So masks are filled once that token is known,
while a GPU runs the model, and are copied to the device from a separate buffer.
"""

from __future__ import annotations

from array import array
from typing import Callable, List, NamedTuple, Optional
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

    rows: the logits row of each mask, -1 for an unused mask; empty before `fill`.
    num_words: 32-bit words of a mask; bit i (lowest first) is set if token i may be sampled.
    bits_offset: where the first mask starts, in bytes; the others follow it.
    nbytes: used bytes of the memory; 0 if no row has a mask.
    memory: the buffer, large enough for masks of all wanted rows.
    """

    def __init__(self, wanted: SequenceOf[MaskedRow], num_words: int, memory: memoryview) -> None:
        self.rows: List[int] = []
        self.num_words = num_words
        self.memory = memory
        self._wanted = wanted

    @property
    def bits_offset(self) -> int:
        return _bits_offset(len(self.rows))

    @property
    def nbytes(self) -> int:
        return self.bits_offset + 4 * self.num_words * len(self.rows)

    def fill(self, meanwhile: Optional[Callable[[], None]] = None) -> List[FailedGrammar]:
        """Writes the masks, for the tokens that the sequences have now. Sequences that have ended
        meanwhile get no mask, nor do those whose grammar fails; the latter are returned.

        meanwhile: called once, while the masks of grammars are made. It may change neither the
            sequences' tokens nor what `MaskMaker` has allocated.
        """
        live = [each for each in self._wanted if not each.seq.is_finished]
        nbytes = 4 * self.num_words
        bits = self.memory[_bits_offset(len(live)) :][: nbytes * len(live)]
        grammars = [
            (each.constraints.grammar, place)
            for place, each in enumerate(live)
            if each.constraints.grammar is not None
        ]
        rows, failed = [each.row for each in live], []
        for place, error in fill_masks(grammars, nbytes, bits, meanwhile):
            rows[place] = -1
            failed.append(FailedGrammar(live[place].seq, error))
        for place, (_, _, constraints) in enumerate(live):
            if constraints.allowed is not None:
                mask = bits[place * nbytes : (place + 1) * nbytes]
                _allow(constraints.allowed, mask, also=constraints.grammar is not None)
        self.memory[: 8 * len(rows)] = array("q", rows).tobytes()
        self.rows = rows  # last: after an interruption there are no masks
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

    def masks(self, wanted: SequenceOf[MaskedRow]) -> Optional[StepMasks]:
        """The masks of rows, not filled yet; None without any."""
        if not wanted:
            return None
        nbytes = _bits_offset(len(wanted)) + 4 * self._num_words * len(wanted)
        if nbytes > len(self._memory):
            self._memory = self._allocate(1 << (nbytes - 1).bit_length())
        return StepMasks(wanted, self._num_words, self._memory)


def _bits_offset(num_rows: int) -> int:
    """Aligned to 16 bytes, so that kernels can load 16 bytes at a time."""
    return -(-8 * num_rows // 16) * 16


def _allow(allowed: bytes, mask: memoryview, *, also: bool) -> None:
    """Writes a mask of allowed tokens. also: intersects it with the mask that is there."""
    if also:
        both = int.from_bytes(mask, "little") & int.from_bytes(allowed, "little")
        allowed = both.to_bytes(len(mask), "little")
    mask[:] = allowed
