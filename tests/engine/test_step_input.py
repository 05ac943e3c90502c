"""Where everything lies in the buffer of a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.step_input import SizeClass, StepBuffers, StepInput, StepLayout, capacity

SIZES = st.tuples(*[st.integers(0, 300)] * 6).map(lambda counts: SizeClass.for_counts(*counts))


@given(st.integers(0, 10**6))
def test_capacities_are_few_and_hold_what_they_are_for(count):
    room = capacity(count)
    assert count <= room
    assert room & (room - 1) == 0
    assert room < 2 * count or room in (0, 16)
    assert (room == 0) == (count == 0)


@given(SIZES, st.integers(0, 100))
def test_arrays_are_aligned_and_do_not_overlap(size, room):
    layout = StepLayout(size, room)
    step = StepInput(layout, memoryview(bytearray(layout.nbytes)))
    for number, (name, field) in enumerate(layout.fields.items(), start=1):
        array = getattr(step, name)
        assert field.offset % 16 == 0
        assert len(array) == field.length
        for index in range(field.length):
            array[index] = number
    for number, name in enumerate(layout.fields, start=1):
        assert set(getattr(step, name).tolist()) <= {number}
    assert layout.room_offset % 16 == 0
    assert layout.room_offset + room <= layout.nbytes
    assert bytes(step.memory[layout.room_offset :]) == bytes(layout.nbytes - layout.room_offset)


@given(SIZES)
def test_offsets_depend_on_the_class_alone(size):
    assert StepLayout(size).fields == StepLayout(SizeClass(*size)).fields


def test_block_tables_widen_eightfold():
    widths = {count: SizeClass.for_counts(1, 1, count, 1, 0, 0).blocks for count in (0, 1, 16)}
    assert widths == {0: 16, 1: 16, 16: 16}
    widths = {count: SizeClass.for_counts(1, 1, count, 1, 0, 0).blocks for count in (17, 128, 129)}
    assert widths == {17: 128, 128: 128, 129: 1024}


SMALL = SizeClass.for_counts(1, 1, 1, 1, 0, 0)
LARGE = SizeClass.for_counts(100, 8, 1, 8, 4, 4)


def test_a_buffer_is_written_while_the_other_is_read():
    allocated = []

    def allocate(nbytes):
        allocated.append(memoryview(bytearray(nbytes)))
        return allocated[-1]

    buffers = StepBuffers(allocate, lambda size: 10 * size.tokens)
    first, second = buffers.take(SMALL), buffers.take(SMALL)
    assert first.layout.nbytes == first.layout.room_offset + 160
    assert first.memory is not second.memory
    first.token_ids[0], second.token_ids[0] = 1, 2
    assert (first.token_ids[0], second.token_ids[0]) == (1, 2)
    second.num_tokens, second.uses_top_k, second.masks = 5, True, object()
    second.logprobs.append((0, 1))
    assert buffers.take(SMALL) is first
    again = buffers.take(SMALL)
    assert again is second  # without what the step before had
    assert (again.num_tokens, again.uses_top_k, again.masks, again.logprobs) == (0, False, None, [])
    assert len(allocated) == 2


def test_a_larger_step_takes_the_place_of_its_own_buffer_alone():
    allocated = []

    def allocate(nbytes):
        allocated.append(memoryview(bytearray(nbytes)))
        return allocated[-1]

    buffers = StepBuffers(allocate, lambda size: 0)
    first, second = buffers.take(SMALL), buffers.take(SMALL)
    large = buffers.take(LARGE)
    assert large.layout.size == LARGE
    assert large.memory is allocated[-1]
    sizes = [len(memory) for memory in allocated]
    assert sizes[2] >= large.layout.nbytes
    assert all(size & (size - 1) == 0 for size in sizes)  # so that few of them are ever made
    assert buffers.take(SMALL) is second
    smaller = buffers.take(SMALL)  # in the new memory: the old one is nobody's
    assert smaller is not first
    assert smaller.memory is large.memory
    assert len(allocated) == 3


def padded(*counts, num_changes=3):
    """What `pad` writes to a step of 5 tokens, 2 sequences and 2 rows: name -> {index: value}."""
    layout = StepLayout(SizeClass.for_counts(16, 16, 16, 16, 16, 0))
    step = StepInput(layout, memoryview(bytearray(b"\x3f" * layout.nbytes)))
    before = {name: getattr(step, name).tolist() for name in layout.fields}
    step.num_tokens, step.num_sequences, step.num_rows = 5, 2, 2
    step.num_changes = num_changes
    step.pad(*counts, max_rows=100)
    changed = {}
    for name, old in before.items():
        new = enumerate(getattr(step, name).tolist())
        written = {index: value for index, value in new if value != old[index]}
        if written:
            changed[name] = written
    return changed


def test_a_padded_step_has_what_kernels_skip():
    tokens, rows, changes = (5, 6, 7), (2, 3), range(3, 16)
    assert padded(8, 4, 4) == {
        "token_ids": dict.fromkeys(tokens, 0),
        "positions": dict.fromkeys(tokens, 0),
        "sources": dict.fromkeys(tokens, 105),  # the first of them, whose token id is 0
        "slots": dict.fromkeys(tokens, -1),
        "context_lens": {2: 3, 3: 3},
        "query_starts": {3: 8, 4: 8},  # all tokens are the first one's
        "block_tables": dict.fromkeys(range(2 * 16, 4 * 16), 0),
        **{name: dict.fromkeys(rows, 0) for name in ("rows", "top_k", "seeds", "draws")},
        **{name: dict.fromkeys(rows, 0.0) for name in ("temperatures", "min_p")},
        "top_p": dict.fromkeys(rows, 1.0),
        "counters": dict.fromkeys(rows, -1),
        "change_rows": dict.fromkeys(changes, -1),
        "change_tokens": dict.fromkeys(changes, 0),
    }


def test_only_what_is_missing_is_padded():
    assert padded(5, 2, 2, num_changes=16) == {}
    assert padded(5, 3, 2, num_changes=16) == {
        "context_lens": {2: 1},  # of no token, but attention reads at least one
        "query_starts": {3: 5},
        "block_tables": dict.fromkeys(range(2 * 16, 3 * 16), 0),
    }
