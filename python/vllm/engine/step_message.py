"""Serialises a step for the other ranks: a fixed header, a list of numbers, the step's arrays.

Messages may come over a network: nothing in them is unpickled, and lengths are checked.
"""

from __future__ import annotations

import struct
from array import array
from typing import Callable, Iterator, List, Union

from vllm.engine.step_input import PromptLogprobs, SizeClass, StepInput, StepLayout

# The size class, the used lengths, the `uses_` flags, and how many numbers follow.
_HEADER = struct.Struct("=6q5q5?3xq")

Bytes = Union[bytes, bytearray, memoryview]


def pack_step(step: StepInput) -> bytes:
    """The message of a step; the executor's own data after the arrays is left out."""
    numbers = array("q", [len(step.logprobs)])
    for row, num_best in step.logprobs:
        numbers.extend((row, num_best))
    for sequence, row, targets, num_best in step.prompt_logprobs:
        numbers.extend((sequence, row, num_best, len(targets)))
        numbers.extend(targets)
    header = _HEADER.pack(
        *step.layout.size,
        step.num_tokens,
        step.num_sequences,
        step.num_rows,
        step.num_fresh,
        step.num_changes,
        step.uses_temperatures,
        step.uses_top_k,
        step.uses_top_p,
        step.uses_min_p,
        step.uses_penalties,
        len(numbers),
    )
    return b"".join((header, numbers, step.memory[: step.layout.room_offset]))


def unpack_step(message: Bytes, take: Callable[[SizeClass], StepInput]) -> StepInput:
    """Reads a message into a buffer of this process.

    take: returns a cleared buffer of a size class, as `StepBuffers.take` does.
    Raises ValueError for a malformed message.
    """
    if len(message) < _HEADER.size:
        raise ValueError(f"a step of {len(message)} bytes is shorter than its header")
    *fields, num_numbers = _HEADER.unpack_from(message)
    size, counts, uses = SizeClass(*fields[:6]), fields[6:11], fields[11:]
    limits = (size.tokens, size.sequences, size.rows, size.rows, size.changes)
    if min(*size, num_numbers) < 0 or not all(0 <= n <= m for n, m in zip(counts, limits)):
        raise ValueError(f"a step's used lengths {counts} do not fit in {size}")
    end = _HEADER.size + 8 * num_numbers
    nbytes = StepLayout(size).room_offset
    if len(message) != end + nbytes:
        raise ValueError(f"a step of {size} takes {end + nbytes} bytes, got {len(message)}")
    numbers = array("q")
    numbers.frombytes(message[_HEADER.size : end])
    step = take(size)
    step.memory[:nbytes] = message[end:]
    step.num_tokens, step.num_sequences, step.num_rows, step.num_fresh, step.num_changes = counts
    step.uses_temperatures, step.uses_top_k, step.uses_top_p, step.uses_min_p = uses[:4]
    step.uses_penalties = uses[4]
    try:
        _read_logprobs(step, iter(numbers))
    except StopIteration:
        raise ValueError("a step ends in the middle of its log-probability requests") from None
    return step


def _read_logprobs(step: StepInput, numbers: Iterator[int]) -> None:
    step.logprobs = [(next(numbers), next(numbers)) for _ in range(next(numbers))]
    for sequence in numbers:
        row, num_best, count = next(numbers), next(numbers), next(numbers)
        targets: List[int] = [next(numbers) for _ in range(count)]
        step.prompt_logprobs.append(PromptLogprobs(sequence, row, targets, num_best))
