"""Calls two of the library's ops by themselves, on NumPy arrays: no engine, no torch.

python examples/own_kernel_call.py

The same calls take torch tensors, and run on the GPU where those are there.
"""

import numpy as np

from vllm import ops

TOKENS, HIDDEN = 4, 64


def main() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((TOKENS, HIDDEN), dtype=np.float32)
    weight = np.ones(HIDDEN, dtype=np.float32)
    normed = np.empty_like(x)
    ops.rms_norm(normed, x, weight, 1e-6)
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    print(f"rms_norm: at most {np.abs(normed - expected).max():.1e} from NumPy's own")

    activated = np.empty((TOKENS, HIDDEN // 2), dtype=np.float32)
    ops.silu_and_mul(activated, x)
    gate, up = np.split(x, 2, axis=-1)
    expected = gate / (1 + np.exp(-gate)) * up
    print(f"silu_and_mul: at most {np.abs(activated - expected).max():.1e} from NumPy's own")


if __name__ == "__main__":
    main()
