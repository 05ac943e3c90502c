"""The op tests run on every kind of tensor: NumPy arrays and torch tensors, on the CPU and CUDA.

With VLLM_TEST_LIBRARIES=numpy they leave torch out, as tests/cpu/test_variants.py does to be quick.
"""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from tests.ops.support import Kind, why_not
from vllm import _C

PLACES = [
    pytest.param("numpy", "cpu", "", id="numpy"),
    pytest.param("torch", "cpu", "", id="torch"),
    # A torch without the exchange table of C structs, or the part of it that we know.
    pytest.param("torch", "cpu", "attributes", id="torch_attributes"),
    pytest.param("torch", "cuda", "", id="cuda", marks=pytest.mark.gpu),
]
LIBRARIES = os.environ.get("VLLM_TEST_LIBRARIES", "numpy,torch").split(",")


def _kinds(places: list, dtypes: list) -> list:
    kinds = []
    for place in places:
        library, device, reading = place.values
        if library not in LIBRARIES:
            continue
        for dtype in dtypes:
            reason = why_not(library, device, dtype)
            skip = [pytest.mark.skip(reason=reason)] if reason else []
            kinds.append(
                pytest.param(
                    (Kind(library, device, dtype), reading),
                    id=f"{place.id}-{dtype}",
                    marks=[*place.marks, *skip],
                )
            )
    if not kinds:  # a set of nothing would be refused, and should be seen
        skip = pytest.mark.skip(reason=f"VLLM_TEST_LIBRARIES is {','.join(LIBRARIES)}")
        kinds.append(pytest.param(None, id="none", marks=skip))
    return kinds


ALL = ["float32", "float16", "bfloat16"]


def _read_as_told(request: pytest.FixtureRequest) -> Iterator[Kind]:
    kind, reading = request.param
    _C.use_torch_attributes(reading == "attributes")
    yield kind
    _C.use_torch_attributes(False)


@pytest.fixture(params=_kinds(PLACES, ALL))
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Tensors of every library, device and dtype."""
    yield from _read_as_told(request)


@pytest.fixture(params=_kinds(PLACES[:3], ALL))
def cpu_kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """The same, on the CPU only."""
    yield from _read_as_told(request)


@pytest.fixture(params=_kinds(PLACES[3:], ALL))
def cuda_kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """The same, on CUDA only: where it cannot say what the CPU says."""
    yield from _read_as_told(request)


@pytest.fixture(params=_kinds(PLACES, ["float32"]))
def float32_kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """float32 tensors of every library and device, for ops that take no other."""
    yield from _read_as_told(request)


@pytest.fixture(params=_kinds(PLACES[:1], ["float32"]))
def plain(request: pytest.FixtureRequest) -> Kind:
    """float32 arrays of NumPy, for what does not depend on the kind."""
    return request.param[0]


@pytest.fixture(params=[False, True], ids=["contiguous", "strided"])
def strided(request: pytest.FixtureRequest) -> bool:
    return request.param
