"""Checks an installed wheel, run by the Python that it was installed for.

    python check.py '{"version": "0.5.4", "commit": "…", "url": "http://…", "sha256": "…"}'

Prints a line of JSON with the kinds of tensor that the ops were checked on; a mismatch raises an
exception. It supports Python 3.8, does not import this repository, and uses torch only if it is
installed.
"""

import importlib.metadata
import importlib.util
import json
import sys
from typing import Any, Callable, Dict, Iterator, NamedTuple

import numpy as np

SHAPES = [(1, 1), (3, 7), (5, 64), (4, 1000)]  # rows, width


class Kind(NamedTuple):
    """A kind of tensor: makes one from a float64 or int64 array, and reads it back."""

    name: str
    make: Callable[[np.ndarray], Any]
    read: Callable[[Any], np.ndarray]
    tolerance: float  # relative and absolute; a few ulps of the dtype


def expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def check_identity(expected: Dict[str, str]) -> None:
    """Checks that version, commit and origin match the installed URL."""
    import vllm

    expect("vllm.__version__", expected["version"], vllm.__version__)
    expect("vllm.__commit__", expected["commit"], vllm.__commit__)
    origin = json.loads(
        importlib.metadata.distribution("vllm").read_text("direct_url.json") or "{}"
    )
    expect("direct_url.json: url", expected["url"], origin.get("url"))
    found = origin.get("archive_info", {}).get("hash")
    expect("direct_url.json: hash", "sha256=" + expected["sha256"], found)


def kinds() -> Iterator[Kind]:
    """NumPy with its two float dtypes; torch, if installed, with all three."""
    for dtype, tolerance in ((np.float32, 2e-5), (np.float16, 4e-3)):
        yield numpy_kind(np.dtype(dtype), tolerance)
    if importlib.util.find_spec("torch"):
        for name, tolerance in (("float32", 2e-5), ("float16", 4e-3), ("bfloat16", 3e-2)):
            yield torch_kind(name, tolerance)


def numpy_kind(dtype: "np.dtype[Any]", tolerance: float) -> Kind:
    def make(x: np.ndarray) -> np.ndarray:
        return x.astype(dtype if x.dtype.kind == "f" else x.dtype)

    return Kind(f"numpy.{dtype.name}", make, lambda x: x.astype(np.float64), tolerance)


def torch_kind(name: str, tolerance: float) -> Kind:
    import torch

    def make(x: np.ndarray) -> Any:
        return torch.tensor(x, dtype=getattr(torch, name) if x.dtype.kind == "f" else None)

    return Kind(f"torch.{name}", make, lambda x: x.double().numpy(), tolerance)


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    result: np.ndarray = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight
    return result


def silu_and_mul(x: np.ndarray) -> np.ndarray:
    gate, up = np.split(x, 2, axis=-1)
    result: np.ndarray = gate / (1 + np.exp(-gate)) * up
    return result


def rotate(x: np.ndarray, cos_sin: np.ndarray, is_neox: bool) -> np.ndarray:
    """x: [tokens, heads, size]; cos_sin: [tokens, size]. Rotates each pair as a complex number."""
    size = x.shape[-1]
    turn = (cos_sin[:, : size // 2] + 1j * cos_sin[:, size // 2 :])[:, None, :]
    first, second = (
        (slice(0, size // 2), slice(size // 2, size))
        if is_neox
        else (slice(0, size, 2), slice(1, size, 2))
    )
    turned = (x[..., first] + 1j * x[..., second]) * turn
    out = np.empty_like(x)
    out[..., first], out[..., second] = turned.real, turned.imag
    return out


def check_ops(kind: Kind) -> None:
    """Compares every op with its formula in float64, on inputs rounded to the dtype."""
    from vllm import ops

    random = np.random.RandomState(0)

    def draw(*shape: int) -> np.ndarray:
        """Random values that are exact in the dtype."""
        return kind.read(kind.make(random.standard_normal(shape)))

    def close(name: str, found: Any, wanted: np.ndarray) -> None:
        np.testing.assert_allclose(
            kind.read(found), wanted, kind.tolerance, kind.tolerance, err_msg=f"{kind.name} {name}"
        )

    for rows, width in SHAPES:
        x, residual, weight = draw(rows, width), draw(rows, width), draw(width)
        out = kind.make(np.full_like(x, np.nan))
        ops.rms_norm(out, kind.make(x), kind.make(weight), 1e-6)
        close("rms_norm", out, rms_norm(x, weight, 1e-6))

        normed, summed = kind.make(x), kind.make(residual)
        ops.fused_add_rms_norm(normed, summed, kind.make(weight), 1e-6)
        close("fused_add_rms_norm: residual", summed, x + residual)
        close("fused_add_rms_norm: input", normed, rms_norm(kind.read(summed), weight, 1e-6))

        gated = draw(rows, 2 * width)
        out = kind.make(np.full_like(x, np.nan))
        ops.silu_and_mul(out, kind.make(gated))
        close("silu_and_mul", out, silu_and_mul(gated))

    positions = np.array([0, 5, 63, 2], dtype=np.int64)
    angles = np.outer(np.arange(64), 10000.0 ** (-np.arange(0, 16, 2) / 16))
    cache = kind.read(kind.make(np.concatenate([np.cos(angles), np.sin(angles)], axis=1)))
    for is_neox in (True, False):
        query, key = draw(4, 6, 16), draw(4, 2, 16)
        turned = kind.make(query), kind.make(key)
        ops.rotary_embedding(kind.make(positions), *turned, 16, kind.make(cache), is_neox)
        close("rotary_embedding: query", turned[0], rotate(query, cache[positions], is_neox))
        close("rotary_embedding: key", turned[1], rotate(key, cache[positions], is_neox))


def main() -> None:
    check_identity(json.loads(sys.argv[1]))
    checked = []
    for kind in kinds():
        check_ops(kind)
        checked.append(kind.name)
    print(json.dumps(checked))


if __name__ == "__main__":
    main()
