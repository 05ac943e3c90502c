"""torch tensors cross the boundary with their own shape, strides, dtype and device."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from vllm import _C, ops

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("torch_source")


VIEWS = {
    "whole": lambda t: t,
    "one row": lambda t: t[0, 0],
    "rows apart": lambda t: t[1:, 1:2],
    "part of each row": lambda t: t[..., 8:24],
    "no rows": lambda t: t[:0],
    "one row many times": lambda t: t[:1].expand(5, -1, -1)[:, 0],
    "transposed leading dimensions": lambda t: t.view(4, 3, 1, 32).transpose(2, 0)[0, :, 0],
}


def norm(input: torch.Tensor) -> torch.Tensor:
    out = torch.full(input.shape, torch.nan, dtype=input.dtype)
    ops.rms_norm(out, input, torch.ones(input.shape[-1], dtype=input.dtype), 0.0)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_are_read_where_they_are(dtype, view, normed):
    tensor = torch.arange(1, 4 * 3 * 32 + 1).reshape(4, 3, 32).to(dtype)
    input = view(tensor)
    tolerance = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    np.testing.assert_allclose(
        norm(input).double().numpy(), normed(input.double().numpy()), rtol=tolerance
    )


def test_a_parameter_is_a_tensor(normed):
    weight = torch.nn.Parameter(torch.full((8,), 2.0), requires_grad=False)
    input, out = torch.randn(3, 8), torch.empty(3, 8)
    ops.rms_norm(out, input, weight, 0.0)
    np.testing.assert_allclose(out.numpy(), 2 * normed(input.numpy()), rtol=1e-6)


@pytest.mark.parametrize(
    ("input", "error", "words"),
    [
        (torch.ones(2, 8, dtype=torch.float64), TypeError, "'input' has dtype torch.float64"),
        (torch.ones(2, 8, dtype=torch.bool), TypeError, "'input' has dtype torch.bool"),
        (torch.ones(2, 8, dtype=torch.int64), TypeError, "'input' has dtype int64"),
        (torch.ones(2, 8).to_sparse(), TypeError, "'input' cannot be read as a strided tensor"),
        (torch.ones((1,) * 8 + (8,)), ValueError, "'input' has 9 dimensions; it takes at most 8"),
        (torch.tensor(1.0), ValueError, "'input' has no dimensions; it takes at least one"),
    ],
    ids=["float64", "bool", "int64", "sparse", "9 dimensions", "scalar"],
)
def test_what_cannot_be_read_is_named(input, error, words):
    with pytest.raises(error, match=words) as raised:
        ops.rms_norm(torch.ones(2, 8), input, torch.ones(8), 0.0)
    assert str(raised.value).startswith("rms_norm: argument ")


def test_a_meta_tensor_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"rms_norm: argument 'out' (is on|cannot)"):
        ops.rms_norm(torch.ones(2, 8, device="meta"), torch.ones(2, 8), torch.ones(8), 0.0)


def test_sources_agree(torch_source):
    """The other source reads the same, to the last bit."""
    input = torch.randn(5, 7, 24)[:, ::2, 3:19]
    out = norm(input[:, 0])
    _C.use_torch_attributes(torch_source == "table")
    assert torch.equal(norm(input[:, 0]), out)


def test_no_reference_is_lost_or_kept():
    input, out, weight = torch.ones(2, 4, 8)[:, 0], torch.ones(2, 8), torch.ones(8)
    touched = [input, out, weight, torch.Tensor, torch.float32, torch.Size, True, None]

    def call() -> None:
        ops.rms_norm(out, input, weight, 0.0)
        with pytest.raises(ValueError, match="weight"):
            ops.rms_norm(out, input, out, 0.0)

    call()
    gc.collect()  # exceptions hold references to what their frames had
    before = [sys.getrefcount(each) for each in touched]
    for _ in range(200):
        call()
    gc.collect()
    after = [sys.getrefcount(each) for each in touched]
    assert max(abs(now - then) for now, then in zip(after, before)) < 100
