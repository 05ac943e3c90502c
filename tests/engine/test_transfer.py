"""Several tensors as one, and back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.transfer import pack, to_device, unpack

CPU = torch.device("cpu")
DTYPES = [torch.int64, torch.int32, torch.float32, torch.bool, torch.uint8]


@given(
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 7), min_size=0, max_size=2)),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_packed_comes_out_again(kinds):
    tensors = [torch.randint(0, 2, tuple(shape)).to(dtype) for dtype, shape in kinds]
    packed = pack(tensors, pinned=False)
    assert packed.dtype is torch.uint8
    for before, after in zip(tensors, unpack(packed, tensors)):
        assert after.dtype is before.dtype
        assert torch.equal(after, before)
        assert after.data_ptr() % 16 == packed.data_ptr() % 16


def test_on_the_cpu_nothing_is_copied():
    tensors = [torch.ones(3), torch.zeros(2, 2, dtype=torch.int32)]
    assert all(a is b for a, b in zip(to_device(tensors, CPU), tensors))
