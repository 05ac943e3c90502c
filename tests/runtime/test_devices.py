"""What the library derives from a GPU's attributes, given by a fake driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.stand_in import GPUS, Gpu, StandIn

HEAD_SIZES = (64, 80, 96, 128, 256)
ASK = f"""\
from vllm import ops
found = [_C.devices(), [ops.attention_blocks(size, 0) for size in {HEAD_SIZES}]]
"""
PREFILL_SIZES = (64, 80, 96, 128, 192, 256)
ASK_OF_PREFILL = f"""\
from vllm import ops
found = [ops.prefill_blocks(size, 0) for size in {PREFILL_SIZES}]
"""
BY_CAPABILITY = {gpu.capability: gpu for gpu in GPUS}


def asked(
    stand_in: StandIn, folder: Path, code: str, capability: tuple[int, int], script: str
) -> tuple[Gpu, Any]:
    """A GPU for which there is device code of one arch, and what the script finds."""
    gpu = BY_CAPABILITY[capability]
    (folder / code).mkdir()
    return gpu, stand_in.run(gpu, 13000, folder, script)


@pytest.mark.parametrize(
    ("code", "capability", "on_a_processor"),
    [
        ("sm_70", (7, 0), [1, 1, 1, 1, 1]),
        ("sm_80", (8, 0), [1, 1, 1, 1, 1]),
        ("sm_86", (8, 6), [1, 1, 1, 1, 1]),
        ("sm_90a", (9, 0), [2, 2, 2, 2, 1]),
        ("sm_100", (10, 0), [2, 2, 2, 2, 1]),
        ("compute_90", (10, 0), [2, 2, 2, 2, 1]),
        ("sm_110", (11, 0), [2, 2, 2, 2, 1]),
        ("sm_120", (12, 0), [1, 1, 1, 1, 1]),
        ("compute_90", (12, 0), [1, 1, 1, 1, 1]),
    ],
)
def test_blocks_of_attention_are_what_shared_memory_has_room_for(
    stand_in: StandIn,
    tmp_path: Path,
    code: str,
    capability: tuple[int, int],
    on_a_processor: list[int],
) -> None:
    gpu, (devices, blocks) = asked(stand_in, tmp_path, code, capability, ASK)
    assert devices == [["G", *capability]]
    assert blocks == [gpu.processors * each for each in on_a_processor]


@pytest.mark.parametrize(
    ("code", "capability", "on_a_processor"),
    [
        ("sm_75", (7, 5), [1, 1, 1, 1, 1, 1]),
        ("sm_80", (8, 0), [2, 2, 2, 2, 2, 1]),
        ("sm_86", (8, 6), [2, 2, 1, 1, 1, 1]),
        ("sm_90", (9, 0), [2, 2, 2, 2, 2, 2]),
        ("sm_90a", (9, 0), [1, 1, 1, 1, 1, 1]),
        ("sm_120", (12, 0), [2, 2, 1, 1, 1, 1]),
    ],
)
def test_blocks_of_prefill_are_what_shared_memory_has_room_for(
    stand_in: StandIn,
    tmp_path: Path,
    code: str,
    capability: tuple[int, int],
    on_a_processor: list[int],
) -> None:
    gpu, blocks = asked(stand_in, tmp_path, code, capability, ASK_OF_PREFILL)
    assert blocks == [gpu.processors * each for each in on_a_processor]
