"""How many blocks the cache gets."""

from __future__ import annotations

import pytest
import torch

from tests.parallel.support import groups
from vllm.config import ModelConfig, RopeConfig
from vllm.engine_args import EngineArgs
from vllm.parallel.group import SingleGroup
from vllm.worker import kv_cache

CONFIG = ModelConfig(
    architecture="LlamaForCausalLM",
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=4096,
    rms_norm_eps=1e-6,
    rope=RopeConfig(),
    tie_word_embeddings=False,
    dtype="float32",
)
CPU = torch.device("cpu")
ALONE = SingleGroup()
BLOCK = 2 * 3 * 2 * 16 * 16 * 4  # keys and values, layers, heads, head size, tokens, bytes


def blocks(group=ALONE, **kwargs):
    args = EngineArgs("m", **kwargs)
    return kv_cache.choose_num_blocks(
        args, CONFIG, torch.float32, CPU, 4096, group, lambda: pytest.fail("no GPU is meant")
    )


def test_size_of_a_block():
    assert kv_cache.block_bytes(CONFIG, 16, torch.float32, ALONE) == BLOCK
    assert kv_cache.block_bytes(CONFIG, 16, torch.bfloat16, ALONE) == BLOCK // 2
    caches = kv_cache.allocate(CONFIG, 5, 16, torch.float32, CPU, ALONE)
    assert sum(tensor.nbytes for layer in caches for tensor in layer) == 5 * BLOCK


def test_what_a_head_has_of_a_block_is_in_one_piece():
    for keys, values in kv_cache.allocate(CONFIG, 5, 16, torch.float32, CPU, ALONE):
        for cache in (keys, values):
            assert cache.shape == (5, 16, CONFIG.num_key_value_heads, CONFIG.head_dim)
            assert cache[0, :, 0].is_contiguous()


def test_as_told():
    assert blocks(num_kv_blocks=7, kv_cache_memory_bytes=1) == 7
    assert blocks(kv_cache_memory_bytes=10 * BLOCK + 5) == 10


def test_from_free_memory_but_no_more_than_can_be_used(monkeypatch):
    monkeypatch.setattr(kv_cache, "_free_on_cpu", lambda: 100 * BLOCK)
    assert blocks() == 90
    assert blocks(gpu_memory_utilization=0.5) == 50
    assert blocks(max_num_seqs=1, gpu_memory_utilization=1.0) == 100
    monkeypatch.setattr(kv_cache, "_free_on_cpu", lambda: 1 << 50)
    assert blocks(max_num_seqs=2) == 2 * 4096 // 16
    assert blocks(max_num_seqs=2000) == (4 << 30) // BLOCK
    monkeypatch.setattr(kv_cache, "_free_on_cpu", lambda: 100)
    with pytest.raises(ValueError, match="a block of 16 tokens takes 12,288 bytes, 90 are"):
        blocks()


@pytest.mark.parametrize(("size", "heads"), [(2, 1), (4, 1)])  # divided, and copied
def test_a_rank_has_its_heads_and_its_share_of_the_memory(monkeypatch, size, heads):
    for group in groups(size):
        assert kv_cache.block_bytes(CONFIG, 16, torch.float32, group) == BLOCK * heads // 2
        caches = kv_cache.allocate(CONFIG, 5, 16, torch.float32, CPU, group)
        assert {tensor.shape for layer in caches for tensor in layer} == {(5, 16, heads, 16)}
        assert blocks(group, kv_cache_memory_bytes=10 * BLOCK) == 20
        monkeypatch.setattr(kv_cache, "_free_on_cpu", lambda: 100 * BLOCK)
        assert blocks(group, max_num_seqs=1) == 90 * 2 // size


def test_this_machine_has_memory():
    assert 1 << 20 < kv_cache._free_on_cpu() < 1 << 50
