"""Where everything lies in the buffer of a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.step_input import SizeClass, StepInput, StepLayout, capacity

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
