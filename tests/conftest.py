"""What tests of more than one area share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["table", "attributes"])
def torch_source(request):
    """torch tensors read through torch's DLPack exchange table, then by their attributes."""
    torch = pytest.importorskip("torch")
    from vllm import _C

    if request.param == "table" and not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip(f"torch {torch.__version__} has no DLPack exchange table")
    _C.use_torch_attributes(request.param == "attributes")
    yield request.param
    _C.use_torch_attributes(False)
