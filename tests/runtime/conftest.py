"""What the tests of the native runtime share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.stand_in import StandIn


@pytest.fixture
def normed():
    """rms_norm with a weight of ones and epsilon 0, in float64."""

    def compute(values) -> np.ndarray:
        values = np.asarray(values, np.float64)
        return values / np.sqrt((values**2).mean(-1, keepdims=True))

    return compute


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """A driver that is none."""
    pytest.importorskip("ziglang", reason="the releases' compiler, ziglang, is not installed")
    return StandIn(tmp_path_factory.mktemp("driver"))
