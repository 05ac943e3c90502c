"""Ops run on torch's current stream of their tensors' device, and leave the rest as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from vllm import _C, ops

torch = pytest.importorskip("torch")


@pytest.mark.usefixtures("torch_source")
def test_a_side_stream_is_followed(sample, run_ops, assert_right):
    """The inputs become right only late, and only in the order of the side stream: on any other
    stream the ops would read the NaN that was there before."""
    right = sample("cuda")
    late = right._replace(
        **{
            name: torch.full_like(getattr(right, name), torch.nan)
            for name in ("input", "residual", "gated", "query")
        }
    )
    run_ops(late)  # loads the kernels: loading would wait for the GPU
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(500_000_000)  # cycles: a quarter of a second and more
        for name in ("input", "residual", "gated", "query"):
            getattr(late, name).copy_(getattr(right, name))
        results = run_ops(late)
    torch.cuda.synchronize()
    assert_right(results, right)


@pytest.mark.usefixtures("torch_source")
def test_another_device_than_the_current_one(sample, run_ops, assert_right):
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    assert torch.cuda.current_device() == 0
    there = sample("cuda:1", seed=1)
    here = sample("cuda:0", seed=2)
    results = run_ops(there)
    assert torch.cuda.current_device() == 0
    assert_right(results, there)
    assert_right(run_ops(here), here)  # torch's own context is current again
    assert {device for device, _ in _C.loaded_kernels()} >= {0, 1}


def test_a_thread_without_a_context(sample, assert_right, run_ops):
    """A fresh thread has no current context until something makes one current."""
    one = sample("cuda")
    out = torch.empty_like(one.input)
    torch.cuda.synchronize()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(ops.rms_norm, out, one.input, one.weight, 1e-6).result()
    torch.cuda.synchronize()
    assert_right({**run_ops(one), "rms_norm": out}, one)
