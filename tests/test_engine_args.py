"""The engine's arguments, at the edges of their ranges."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm.engine_args import EngineArgs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be an integer, at least 1, got 0"),
        ({"block_size": -1}, "block_size must be an integer, at least 1, got -1"),
        ({"max_model_len": 1.5}, "max_model_len must be an integer, at least 1, got 1.5"),
        ({"num_kv_blocks": 0}, "num_kv_blocks must be"),
        ({"kv_cache_memory_bytes": "4G"}, "kv_cache_memory_bytes must be"),
        ({"gpu_memory_utilization": 0}, r"must be a number in \(0, 1\], got 0"),
        ({"gpu_memory_utilization": 1.1}, r"gpu_memory_utilization must be a number in \(0, 1\]"),
        ({"gpu_memory_utilization": "all"}, r"must be a number in \(0, 1\], got 'all'"),
        ({"model": ""}, "model must be a folder or a hub id .*, got ''"),
        ({"model": None}, "model must be a folder or a hub id .*, got None"),
        ({"tokenizer": 5}, "tokenizer must be a folder or a hub id .*, got 5"),
        ({"seed": "x"}, "seed must be an integer, got 'x'"),
        ({"enable_prefix_caching": "no"}, "enable_prefix_caching must be True or False, got 'no'"),
        ({"enforce_eager": 1}, "enforce_eager must be True or False, got 1"),
        (
            {"scheduling_policy": "lifo"},
            "scheduling_policy must be one of fcfs, priority, got 'lifo'",
        ),
        ({"async_scheduling": "on"}, "async_scheduling must be True, False or None, got 'on'"),
        ({"dtype": "float8"}, "dtype must be one of"),
        ({"max_num_batched_tokens": 255}, r"at least max_num_seqs \(256\), got 255"),
    ],
)
def test_engine_args_name_the_field_and_its_range(changes, message):
    with pytest.raises(ValueError, match=message):
        EngineArgs(**{"model": "m", **changes})


def test_the_token_budget():
    assert EngineArgs("m").token_budget(100, 2048) == 2048
    assert EngineArgs("m", max_num_seqs=4000).token_budget(100, 2048) == 4000
    assert EngineArgs("m").token_budget(100, 8192) == 8192
    assert EngineArgs("m", max_num_batched_tokens=512).token_budget(100, 8192) == 512
    whole = EngineArgs("m", enable_chunked_prefill=False)
    assert whole.token_budget(9000, 2048) == 9000
    small = EngineArgs("m", enable_chunked_prefill=False, max_num_batched_tokens=512)
    with pytest.raises(ValueError, match=r"at least max_model_len \(9000\) without chunked"):
        small.token_budget(9000, 2048)


def test_a_path_is_taken_as_text():
    args = EngineArgs(Path("a/b"), tokenizer=Path("c"))
    assert (args.model, args.tokenizer) == ("a/b", "c")


def test_numbers_of_other_kinds_are_kept_as_python_s_own():
    np = pytest.importorskip("numpy")
    args = EngineArgs(
        "m", max_num_seqs=np.int64(8), seed=np.uint8(3), gpu_memory_utilization=np.float32(0.5)
    )
    assert (args.max_num_seqs, args.seed, args.gpu_memory_utilization) == (8, 3, 0.5)
    assert [type(v) for v in (args.max_num_seqs, args.seed)] == [int, int]
    assert type(args.gpu_memory_utilization) is float
    for wrong in (np.float64(8), np.bool_(True), np.array([8])):
        with pytest.raises(ValueError, match="max_num_seqs must be an integer, at least 1, got"):
            EngineArgs("m", max_num_seqs=wrong)
