"""Which tokens rows may draw, worked out while the model computes their logits.

A grammar's mask takes tens of microseconds, and nothing of it is needed before the logits are
there: a thread makes the masks of a step beside its model. They lie in a buffer of their own, which
goes to the device when it is complete.
"""

from __future__ import annotations

from array import array
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.constraints import Constraints
from vllm.text.grammars import fill_masks


class StepMasks:
    """The masks of a step, as one piece of memory: which rows they are for, then their bits.

    rows: int64, of logits.
    num_words: of 32 bits, that a mask has: a bit for each token that may be drawn, the lowest
        first.
    bits_offset: in bytes, of the first mask; the others follow.
    nbytes: that are used of the memory.
    memory: complete once `wait` has returned.
    """

    def __init__(self, rows: List[int], num_words: int, memory: memoryview) -> None:
        self.rows = rows
        self.num_words = num_words
        self.bits_offset = _bits_offset(len(rows))
        self.nbytes = self.bits_offset + 4 * num_words * len(rows)
        self.memory = memory
        self._filled: Future[None] = Future()

    def fill(self, constraints: SequenceOf[Constraints]) -> None:
        """Writes the memory. constraints: of each row."""
        try:
            self.memory[: 8 * len(self.rows)] = array("q", self.rows).tobytes()
            _fill(constraints, 4 * self.num_words, self.memory[self.bits_offset : self.nbytes])
            self._filled.set_result(None)
        except BaseException as error:  # noqa: BLE001 (who waits for the masks raises it)
            self._filled.set_exception(error)

    def wait(self) -> None:
        """Returns when all masks are there. Raises what making one has raised."""
        self._filled.result()


class MaskMaker:
    """Makes masks in a thread, in two buffers in turns: one is filled while the other is read.

    allocate: gives writable memory of that many bytes that a device can copy from.
    """

    def __init__(self, vocab_size: int, allocate: Callable[[int], memoryview]) -> None:
        self._num_words = -(-vocab_size // 32)
        self._allocate = allocate
        self._memory = [memoryview(b""), memoryview(b"")]
        self._turn = 0
        self._thread: Optional[ThreadPoolExecutor] = None

    def start(self, wanted: SequenceOf[Tuple[int, Constraints]]) -> Optional[StepMasks]:
        """Begins the masks of rows; None without any. wanted: each row, and whose it is."""
        if not wanted:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="vllm-masks")
        turn = self._turn = 1 - self._turn
        nbytes = _bits_offset(len(wanted)) + 4 * self._num_words * len(wanted)
        if nbytes > len(self._memory[turn]):
            self._memory[turn] = self._allocate(1 << (nbytes - 1).bit_length())
        masks = StepMasks([row for row, _ in wanted], self._num_words, self._memory[turn])
        self._thread.submit(masks.fill, [each for _, each in wanted])
        return masks


def _bits_offset(num_rows: int) -> int:
    """Where kernels may load 16 bytes at a time."""
    return -(-8 * num_rows // 16) * 16


def _fill(constraints: SequenceOf[Constraints], nbytes: int, memory: memoryview) -> None:
    """nbytes: of a mask."""
    grammars = [
        (each.grammar, place) for place, each in enumerate(constraints) if each.grammar is not None
    ]
    fill_masks(grammars, nbytes, memory)
    for place, each in enumerate(constraints):
        allowed = each.allowed
        if allowed is None:
            continue
        mask = memory[place * nbytes : (place + 1) * nbytes]
        if each.grammar is not None:
            both = int.from_bytes(mask, "little") & int.from_bytes(allowed, "little")
            allowed = both.to_bytes(nbytes, "little")
        mask[:] = allowed
