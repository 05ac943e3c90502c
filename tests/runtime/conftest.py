"""What the tests of the native runtime share."""

from __future__ import annotations

import numpy as np
import pytest

from vllm import _C


@pytest.fixture(params=["table", "attributes"])
def torch_source(request):
    """torch tensors read through torch's DLPack exchange table, then by their attributes."""
    torch = pytest.importorskip("torch")
    if request.param == "table" and not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip(f"torch {torch.__version__} has no DLPack exchange table")
    _C.use_torch_attributes(request.param == "attributes")
    yield request.param
    _C.use_torch_attributes(False)


@pytest.fixture
def normed():
    """rms_norm with a weight of ones and epsilon 0, in float64."""

    def compute(values) -> np.ndarray:
        values = np.asarray(values, np.float64)
        return values / np.sqrt((values**2).mean(-1, keepdims=True))

    return compute
