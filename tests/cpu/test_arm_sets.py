"""Arm's kernel sets give the same bits, with different instructions."""

from __future__ import annotations

import pytest

from tests.cpu.test_isa import ARM, available, run

# Prints a digest of what each op makes of numbers of every size. Rows are whole vectors and not,
# and 2 or 8 query heads share one of the cache: few rows, and many.
PROGRAM = """
import hashlib, numpy as np
from ml_dtypes import bfloat16
from vllm import ops
for dtype in (np.float16, bfloat16):
    rng = np.random.default_rng(0)
    def draw(*shape):
        exponents = rng.integers(-30, 3, shape)
        return np.ldexp(rng.standard_normal(shape), exponents).astype(dtype)
    def show(name, *arrays):
        bits = b"".join(each.tobytes() for each in arrays)
        print(np.dtype(dtype).name, name, hashlib.sha256(bits).hexdigest())
    for inputs in (7, 64, 1003):
        out, x, weight, norm = draw(5, 40), draw(5, inputs), draw(40, inputs), draw(inputs)
        ops.few_rows_linear(out, x, weight)
        show(f"product of {inputs}", out)
        ops.few_rows_linear(out, x, weight, None, norm, 1e-6)
        show(f"product of {inputs}, normed", out)
        normed = draw(5, inputs)
        ops.rms_norm(normed, x, norm, 1e-6)
        show(f"norm of {inputs}", normed)
        gated = draw(5, inputs)
        ops.silu_and_mul(gated, draw(5, 2 * inputs))
        show(f"activation of {inputs}", gated)
    for size, group in ((64, 2), (72, 8), (40, 2)):
        caches = draw(2, 6, 16, 2, size)
        tables = rng.permutation(6).astype(np.int32).reshape(1, 6)
        lens, starts = np.array([90], np.int32), np.array([0, 1], np.int32)
        query, out = draw(1, 2 * group, size), draw(1, 2 * group, size)
        ops.paged_attention(out, query, *caches, tables, lens, starts, size**-0.5)
        assert np.isfinite(out.astype(float)).all()
        show(f"attention, heads of {size}, {group} to one", out)
"""


@pytest.mark.skipif(not ARM, reason="the sets of x86-64 round differently: AVX2 has fused products")
def test_every_set_gives_the_same_bits():
    pytest.importorskip("ml_dtypes")
    sets = available()
    if len(sets) < 2:
        pytest.skip(f"this processor can run {sets[0]} alone")
    found = {}
    for isa in sets:
        done = run("\n" + PROGRAM, VLLM_CPU_ISA=isa)
        assert done.returncode == 0, done.stderr
        found[isa] = done.stdout.splitlines()
    assert len(found["neon"]) == 2 * (3 * 4 + 3)
    for isa in sets:
        assert found[isa] == found["neon"], isa
