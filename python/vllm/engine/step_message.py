"""A step as bytes, for processes that compute it together: a fixed header, numbers, its memory.

Nothing in a message is code, and all of it is checked: it may have come over a network.
"""

from __future__ import annotations

import struct
from array import array
from typing import Callable, Iterator, List, Union

from vllm.engine.step_input import PromptLogprobs, SizeClass, StepInput, StepLayout

# The size class, what is used of it, how rows are sampled, and how many numbers follow.
_HEADER = struct.Struct("=6q5q5?3xq")

Bytes = Union[bytes, bytearray, memoryview]


def pack_step(step: StepInput) -> bytes:
    """All that a step says; without the room that an executor has behind it."""
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
    """The step of a message, in a buffer of this process.

    take: gives a cleared buffer of a size class, as `StepBuffers.take`.
    Raises ValueError for bytes that are no step.
    """
    if len(message) < _HEADER.size:
        raise ValueError(f"a step of {len(message)} bytes has no whole header")
    *fields, num_numbers = _HEADER.unpack_from(message)
    size, counts, uses = SizeClass(*fields[:6]), fields[6:11], fields[11:]
    limits = (size.tokens, size.sequences, size.rows, size.rows, size.changes)
    if min(*size, num_numbers) < 0 or not all(0 <= n <= m for n, m in zip(counts, limits)):
        raise ValueError(f"a step of {size} says that it uses {counts} of it")
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
        raise ValueError("a step says of more log-probabilities than it describes") from None
    return step


def _read_logprobs(step: StepInput, numbers: Iterator[int]) -> None:
    step.logprobs = [(next(numbers), next(numbers)) for _ in range(next(numbers))]
    for sequence in numbers:
        row, num_best, count = next(numbers), next(numbers), next(numbers)
        targets: List[int] = [next(numbers) for _ in range(count)]
        step.prompt_logprobs.append(PromptLogprobs(sequence, row, targets, num_best))
