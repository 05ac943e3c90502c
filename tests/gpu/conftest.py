"""Tests that need a GPU. `pytest -m gpu` runs this folder, and the op tests on CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import pytest

HERE = Path(__file__).parent


def why_no_gpu() -> str:
    """Why there is nothing to test here; empty where there is."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return ""


@pytest.hookimpl(tryfirst=True)  # before -m gpu selects
def pytest_collection_modifyitems(items) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    reason = why_no_gpu() if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


class Sample(NamedTuple):
    """Arguments of one call of every op, on a device, and the results it must have (float64)."""

    input: object  # [rows, width]
    residual: object
    weight: object
    gated: object  # [rows, 2 * width]
    positions: object
    query: object  # [rows, 4 * 32]
    cache: object
    expected: dict


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


def rotate(x: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """Row t of x, [rows, heads * 32], by the angles of position t, NeoX style."""
    heads = x.reshape(len(x), -1, 32)
    cosine, sine = (part[: len(x), None, :] for part in np.split(cache, 2, axis=1))
    first, second = np.split(heads, 2, axis=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return np.concatenate(turned, axis=-1).reshape(x.shape)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """sample(device, seed=0, rows=6, width=128): float32, so that any result is within 1e-5."""

    def make(device, seed=0, rows=6, width=128) -> Sample:
        import torch

        rng = np.random.default_rng(seed)

        def normal(*shape):
            return rng.normal(size=shape).astype(np.float32)

        values = {
            "input": normal(rows, width),
            "residual": normal(rows, width),
            "weight": normal(width),
            "gated": normal(rows, 2 * width),
            "positions": np.arange(rows),
            "query": normal(rows, 4 * 32),
            "cache": normal(rows, 32),
        }
        wide = {name: value.astype(np.float64) for name, value in values.items()}
        gate, up = np.split(wide["gated"], 2, axis=-1)
        added = wide["input"] + wide["residual"]
        expected = {
            "rms_norm": norm(wide["input"], wide["weight"]),
            "fused_add_rms_norm": norm(added, wide["weight"]),
            "residual": added,
            "silu_and_mul": gate / (1 + np.exp(-gate)) * up,
            "rotary_embedding": rotate(wide["query"], wide["cache"]),
            "embedding": wide["residual"],
        }
        expected["rotary_and_cache"] = np.concatenate(  # two heads of query, one of key and value
            [expected["rotary_embedding"][:, :96], wide["query"][:, 96:]], axis=1
        )
        expected["reshape_and_cache"] = wide["query"]
        tensors = {name: torch.from_numpy(value).to(device) for name, value in values.items()}
        return Sample(**tensors, expected=expected)

    return make


@pytest.fixture
def run_ops() -> Callable[[Sample], dict]:
    """Calls every op once; the results by name. Inputs that an op writes are copied first."""

    def run(sample: Sample) -> dict:
        import torch

        from vllm import ops

        out = torch.empty_like(sample.input)
        ops.rms_norm(out, sample.input, sample.weight, 1e-6)
        added, residual = sample.input.clone(), sample.residual.clone()
        ops.fused_add_rms_norm(added, residual, sample.weight, 1e-6)
        activated = torch.empty_like(sample.input)
        ops.silu_and_mul(activated, sample.gated)
        query = sample.query.clone()
        ops.rotary_embedding(sample.positions, query, None, 32, sample.cache)
        gathered = torch.empty_like(sample.residual)
        ops.embedding(gathered, sample.positions, sample.residual)
        heads = sample.query.clone().view(-1, 4, 32)
        key, value = heads[:, 2:3], heads[:, 3:]
        stored = [torch.zeros_like(key)[:, None] for _ in "kv"]  # blocks of one token
        ops.rotary_and_cache(
            sample.positions, heads[:, :2], key, value, sample.cache, *stored, sample.positions
        )
        halves = sample.query.view(-1, 2, 2, 32).unbind(1)
        copied = [torch.zeros_like(half)[:, None] for half in halves]
        ops.reshape_and_cache(*halves, *copied, sample.positions)
        return {
            "rms_norm": out,
            "fused_add_rms_norm": added,
            "residual": residual,
            "silu_and_mul": activated,
            "rotary_embedding": query,
            "embedding": gathered,
            "rotary_and_cache": torch.cat([heads[:, :2], *(s[:, 0] for s in stored)], 1).flatten(1),
            "reshape_and_cache": torch.cat([c[:, 0] for c in copied], 1).flatten(1),
        }

    return run


@pytest.fixture
def assert_right() -> Callable[[dict, Sample], None]:
    """Compares what `run_ops` returned with what the sample expects."""

    def check(results: dict, sample: Sample) -> None:
        for name, expected in sample.expected.items():
            got = results[name].cpu().double().numpy()
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)

    return check


@pytest.fixture
def run_fresh() -> Callable[..., object]:
    """run_fresh(code, **environment): what `code` prints as JSON, in a process where no kernel
    was loaded yet."""

    def run(code: str, **environment: str) -> object:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
