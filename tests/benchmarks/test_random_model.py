"""Models that benchmarks write."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from benchmarks import random_model
from vllm import LLM, SamplingParams


def tensors(folder):
    return {
        name: tensor
        for path in folder.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equal_layers_are_a_model_like_any_other(tmp_path, monkeypatch, dtype):
    config = {**random_model.SHAPES["small"], "num_hidden_layers": 6, "dtype": dtype}
    monkeypatch.setitem(random_model.SHAPES, "six layers", config)
    random_model.write_model("six layers", tmp_path / "any")
    nbytes = random_model.write_equal_layers("six layers", tmp_path / "equal")
    expected, found = tensors(tmp_path / "any"), tensors(tmp_path / "equal")
    assert {name: (each.shape, each.dtype) for name, each in expected.items()} == {
        name: (each.shape, each.dtype) for name, each in found.items()
    }
    sizes = [path.stat().st_size for path in (tmp_path / "equal").glob("*.safetensors")]
    assert nbytes == sum(sizes)
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(found[name.format(0)], found[name.format(5)])
    assert not torch.equal(expected[name.format(0)], expected[name.format(5)])
    assert torch.equal(found[name.format(0)], expected[name.format(0)])
    assert (tmp_path / "any/config.json").read_bytes() == (
        tmp_path / "equal/config.json"
    ).read_bytes()
    llm = LLM(str(tmp_path / "equal"), skip_tokenizer_init=True, num_kv_blocks=8)
    (output,) = llm.generate([[1, 2, 3]], SamplingParams(max_tokens=2, ignore_eos=True))
    assert len(output.outputs[0].token_ids) == 2
