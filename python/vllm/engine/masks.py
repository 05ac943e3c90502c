"""Which tokens rows may draw: a second, late buffer of a step.

Nothing of a mask is needed before the logits are there, and a grammar's depends on the token before
it, which is being sampled when the model's part of the step is launched. So masks are made when
that token is known, beside the model on a GPU, and go to the device in a buffer of their own.
"""

from __future__ import annotations

from array import array
from typing import Callable, List, NamedTuple, Optional
from typing import Sequence as SequenceOf

from vllm.engine.constraints import Constraints
from vllm.engine.sequence import Sequence
from vllm.text.grammars import GrammarError, fill_masks


class MaskedRow(NamedTuple):
    """A row of logits where not all tokens may come, and whose it is."""

    row: int
    seq: Sequence
    constraints: Constraints


class FailedGrammar(NamedTuple):
    """A grammar that has given up, and whose it is."""

    seq: Sequence
    error: GrammarError


class StepMasks:
    """The masks of a step, as one piece of memory: which rows they are for, then their bits.

    rows: int64, of logits, those that have a mask, and -1 for a mask of none; empty before `fill`.
    num_words: of 32 bits, that a mask has: a bit for each token that may be drawn, the lowest
        first.
    bits_offset: in bytes, of the first mask; the others follow.
    nbytes: that are used of the memory; 0 where no row has a mask.
    memory: room for masks of all wanted rows.
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

    def fill(self) -> List[FailedGrammar]:
        """Writes the memory, from what the sequences have said by now. Those that have ended since
        the step was described get no mask, nor do those whose grammars fail, which are returned."""
        live = [each for each in self._wanted if not each.seq.is_finished]
        nbytes = 4 * self.num_words
        bits = self.memory[_bits_offset(len(live)) :][: nbytes * len(live)]
        grammars = [
            (each.constraints.grammar, place)
            for place, each in enumerate(live)
            if each.constraints.grammar is not None
        ]
        rows, failed = [each.row for each in live], []
        for place, error in fill_masks(grammars, nbytes, bits):
            rows[place] = -1
            failed.append(FailedGrammar(live[place].seq, error))
        for place, (_, _, constraints) in enumerate(live):
            if constraints.allowed is not None:
                mask = bits[place * nbytes : (place + 1) * nbytes]
                _allow(constraints.allowed, mask, also=constraints.grammar is not None)
        self.memory[: 8 * len(rows)] = array("q", rows).tobytes()
        self.rows = rows  # last: until then there are none, whatever interrupts
        return failed


class MaskMaker:
    """Makes the masks of one step after another in the same memory: each step's are copied to the
    device before the next step's are filled, which begins with the tokens of the step before.

    allocate: gives writable memory of that many bytes that a device can copy from.
    """

    def __init__(self, vocab_size: int, allocate: Callable[[int], memoryview]) -> None:
        self._num_words = -(-vocab_size // 32)
        self._allocate = allocate
        self._memory = memoryview(b"")

    def masks(self, wanted: SequenceOf[MaskedRow]) -> Optional[StepMasks]:
        """Of rows, still to be filled; None without any."""
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
    """Writes a mask of allowed tokens. also: only where the mask has them."""
    if also:
        both = int.from_bytes(mask, "little") & int.from_bytes(allowed, "little")
        allowed = both.to_bytes(len(mask), "little")
    mask[:] = allowed
