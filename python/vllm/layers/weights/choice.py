"""Which matrix products of few rows are our own, and which are cuBLAS's."""

from __future__ import annotations

import functools
from typing import Mapping, Tuple

import torch

from vllm import ops

# The most rows at which ours, with the operations that it fuses, is faster than cuBLAS with those
# as kernels around it: measured on an H200 by benchmarks/cuda_few_rows.py, whose record
# tests/benchmarks/test_product_choice.py compares with this.
_MOST_ROWS: Mapping[str, int] = {"head": 8, "small head": 16, "layer": 16}
_MOST_ROWS_OF_SHAPES: Mapping[Tuple[int, int], int] = {(5120, 5120): 8}
_LEAST_HEAD = 16  # outputs for each input
_MOST_SMALL_HEAD = 1024  # inputs


def shape_class(outputs: int, inputs: int) -> str:
    """A key of the table, for a weight [outputs, inputs]."""
    if outputs < _LEAST_HEAD * inputs:
        return "layer"
    return "small head" if inputs <= _MOST_SMALL_HEAD else "head"


@functools.lru_cache(maxsize=None)
def most_rows(outputs: int, inputs: int) -> int:
    """The most rows that are multiplied by ours."""
    most = _MOST_ROWS_OF_SHAPES.get((outputs, inputs))
    return _MOST_ROWS[shape_class(outputs, inputs)] if most is None else most


def is_ours(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether to multiply by `ops.few_rows_linear`, not by cuBLAS: it takes these tensors, and is
    the faster one."""
    return (
        len(x) <= ops.FEW_ROWS
        and x.is_cuda
        and x.dtype is not torch.float32
        and weight.shape[1] % 8 == 0
        and len(x) <= most_rows(*weight.shape)
        and _has_few_rows(x.device)
    )


@functools.lru_cache(maxsize=None)
def _has_few_rows(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
