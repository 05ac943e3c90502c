"""A model sharded over ranks: what each rank loads and reads, and the results."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.models.support import FAMILIES
from tests.parallel.support import groups
from vllm.config import ModelConfig, ModelError
from vllm.layers.attention import AttentionMetadata
from vllm.layers.weights import Dense
from vllm.models import checkpoint
from vllm.models.loader import checkpoint_targets, load_model

CPU = torch.device("cpu")


def load(folder, group=None):
    return load_model(
        folder,
        ModelConfig.read(folder),
        dtype=torch.float32,
        device=CPU,
        max_model_len=64,
        group=group,
        weights=Dense(),
    )


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_rank_has_its_part_of_every_tensor(tiny, family, size):
    whole = checkpoint_targets(load(tiny(family).folder))
    held = {name: torch.zeros(target.shape) for name, target in whole.items()}
    for group in groups(size):
        targets = checkpoint_targets(load(tiny(family).folder, group))
        assert targets.keys() == whole.keys()
        for name, target in targets.items():
            assert torch.equal(target.tensor, whole[name].tensor[target.index]), name
            held[name][target.index] += 1
    # Together all of it: once, but for norms, biases of sums, and heads that are copied.
    copies = max(1, size // ModelConfig.read(tiny(family).folder).num_key_value_heads)
    for name, count in held.items():
        repeated = "norm" in name or name.endswith(("o_proj.bias", "down_proj.bias"))
        heads = copies if "k_proj" in name or "v_proj" in name else 1
        assert count.unique().tolist() == [size if repeated else heads], name


class Counting:
    """`safe_open`, with the elements that were read; whole tensors cannot be had."""

    elements = 0

    def __init__(self, *args, **kwargs):
        self._file = safe_open(*args, **kwargs)

    def __enter__(self):
        self._open = self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def keys(self):
        return self._open.keys()

    def get_slice(self, name):
        return CountingSlice(self._open.get_slice(name))


class CountingSlice:
    def __init__(self, stored):
        self._stored = stored
        self.get_shape, self.get_dtype = stored.get_shape, stored.get_dtype

    def __getitem__(self, index):
        part = self._stored[index]
        Counting.elements += part.numel()
        return part


safe_open = checkpoint.safe_open


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("family", ["llama-linear-biased", "qwen3"])
def test_a_rank_reads_its_part_only(tiny, family, size, monkeypatch):
    monkeypatch.setattr(checkpoint, "safe_open", Counting)
    for group in groups(size):
        Counting.elements = 0
        model = load(tiny(family).folder, group)
        assert Counting.elements == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_compute_what_one_does(tiny, family, size):
    ids = torch.arange(20) * 7 % 320
    starts, lens = torch.tensor([0, 12, 20]), torch.tensor([12, 8])
    positions = torch.cat([torch.arange(12), torch.arange(8)])
    tables = torch.tensor([[0], [1]], dtype=torch.int32)
    metadata = AttentionMetadata(
        torch.cat([torch.arange(12), 16 + torch.arange(8)]),
        tables,
        lens.to(torch.int32),
        starts.to(torch.int32),
    )

    @torch.inference_mode()
    def logits(model):
        caches = []
        for layer in model.model.layers:
            kv_heads = layer.self_attn.attention.num_kv_heads
            shape = (2, 16, kv_heads, model.config.head_dim)
            caches.append((torch.zeros(shape), torch.zeros(shape)))
        return model.logits(model(ids, positions, caches, metadata))

    expected = logits(load(tiny(family).folder))
    # Loaded one after another: the default dtype belongs to the process.
    models = [load(tiny(family).folder, group) for group in groups(size)]
    with ThreadPoolExecutor(size) as pool:
        first, *others = pool.map(logits, models)
    torch.testing.assert_close(first, expected, atol=1e-3, rtol=1e-3)
    assert others == [None] * (size - 1)  # rank 0 alone samples


def test_a_group_that_is_too_large_is_refused_by_name(tiny):
    with pytest.raises(ModelError, match=r"num_attention_heads is 4, .*; possible .* 1, 2, 4"):
        load(tiny("qwen3").folder, groups(8)[0])
