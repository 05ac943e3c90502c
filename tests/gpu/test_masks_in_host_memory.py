"""Masks that a GPU reads from pinned memory of the host do what those in its own do."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.ops.test_mask_logits import draw_masks, packed  # noqa: E402
from vllm import ops  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("vocab", [33, 4095, 4096, 20_001, 151_936])
def test_they_do_the_same(dtype, vocab):
    allowed = draw_masks(vocab, seed=vocab)
    rows = torch.tensor([3, 0, 6, 1, -1, 2])
    bits = torch.from_numpy(packed(allowed))
    logits = torch.randn(7, vocab, device="cuda").to(dtype)
    expected = logits.clone()
    for mask, row in enumerate(rows.tolist()):
        if row >= 0:
            expected[row, torch.from_numpy(~allowed[mask]).cuda()] = -torch.inf
    on_gpu = logits.clone()
    ops.mask_logits(on_gpu, rows.cuda(), bits.cuda())
    # As in the engine's buffer: the masks begin at any multiple of four bytes.
    memory = torch.empty(bits.numel() + 1, dtype=torch.int32).pin_memory()[1:].view(bits.shape)
    memory.copy_(bits)
    ops.mask_logits(logits, rows.pin_memory(), memory)
    assert torch.equal(on_gpu, expected)
    assert torch.equal(logits, expected)


def test_what_is_refused():
    logits = torch.zeros(2, 40, device="cuda")
    rows, bits = torch.tensor([0]), torch.zeros(1, 2, dtype=torch.int32)
    for args, message in (
        ((rows.pin_memory(), bits), "'bits' is not pinned; it takes pinned memory"),
        ((rows, bits.pin_memory()), "'rows' is not pinned; it takes pinned memory"),
        ((rows.cuda(), bits.pin_memory()), "'rows' is on cuda:0"),
        ((rows.pin_memory(), bits.cuda()), "'rows' is on the CPU"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ops.mask_logits(logits, *args)
    assert np.isfinite(logits.cpu().numpy()).all()
