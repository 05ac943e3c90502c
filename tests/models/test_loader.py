"""What is found in a model folder, and the errors for what is not."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.support import write_model
from vllm.config import ModelConfig, ModelError
from vllm.models import loader
from vllm.models.checkpoint import INDEX, SINGLE
from vllm.models.loader import checkpoint_targets, default_dtype, load_model
from vllm.models.registry import ARCHITECTURES, find_architecture


def load(folder, dtype=torch.float32):
    config = ModelConfig.read(folder)
    return load_model(folder, config, dtype=dtype, device=torch.device("cpu"), max_model_len=32)


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of a Qwen2 model, to be spoiled."""
    return shutil.copytree(tiny("qwen2").folder, tmp_path / "model")


def change_weights(folder, change):
    weights = load_file(folder / SINGLE)
    change(weights)
    save_file(weights, folder / SINGLE, metadata={"format": "pt"})


@pytest.mark.parametrize("family", ["llama2", "llama3", "llama-linear-biased", "qwen3"])
def test_every_tensor_arrives_where_it_belongs(tiny, family):
    model = load(tiny(family).folder)
    stored = load_file(tiny(family).folder / SINGLE)
    targets = checkpoint_targets(model)
    assert targets.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(targets[name].tensor, tensor), name


@pytest.mark.parametrize("delay", [0.0, 1e6])
def test_a_terminal_shows_how_far_a_long_load_is(tiny, monkeypatch, delay):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(loader, "_SHOWN_AFTER", delay)
    monkeypatch.setattr(sys, "stderr", Terminal())
    load(tiny("qwen3").folder)
    assert ("weights: " in sys.stderr.getvalue()) == (delay == 0)


def test_weights_are_converted_to_the_dtype_asked_for(tiny):
    model = load(tiny("llama2").folder, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() is torch.float32


def test_a_tied_head_of_another_shape(tiny, tmp_path):
    folder = shutil.copytree(tiny("qwen3").folder, tmp_path / "model")
    change_weights(folder, lambda w: w.update({"lm_head.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"lm_head\.weight has shape \(1,\), .* \(320, 64\)"):
        load(folder)


def test_a_tensor_in_two_files(tiny, tmp_path):
    folder = shutil.copytree(tiny("qwen3").folder, tmp_path / "model")
    shutil.copy(folder / SINGLE, folder / "b.safetensors")
    (folder / SINGLE).rename(folder / "a.safetensors")
    with pytest.raises(ModelError, match=r"is in a\.safetensors and b\.safetensors"):
        load(folder)


def test_old_rotary_tables_are_ignored(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(folder, lambda w: w.update({name: torch.zeros(8)}))
    load(folder)


def test_missing_tensor(folder):
    change_weights(folder, lambda w: w.pop("model.layers.1.self_attn.k_proj.bias"))
    with pytest.raises(ModelError, match=r"1 of 39 tensors .*layers\.1\.self_attn\.k_proj\.bias"):
        load(folder)


def test_misshapen_tensor(folder):
    def change(weights):
        weights["model.norm.weight"] = torch.zeros(63)

    change_weights(folder, change)
    with pytest.raises(ModelError, match=r"model\.norm\.weight has shape \(63,\), .* \(64,\)"):
        load(folder)


def test_tensor_that_the_architecture_lacks(folder):
    change_weights(folder, lambda w: w.update({"model.layers.0.mlp.router.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.router\.weight does not belong to"):
        load(folder)


@pytest.mark.parametrize("name", ["o_proj", "gate_proj"])
def test_bias_that_config_json_denies(tiny, tmp_path, name):
    """transformers would leave it out, with a warning."""
    folder = shutil.copytree(tiny("llama-linear-biased").folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    field = "attention_bias" if name == "o_proj" else "mlp_bias"
    (folder / "config.json").write_text(json.dumps({**config, field: False}))
    with pytest.raises(ModelError, match=rf"{name}\.bias.* does not belong to this model"):
        load(folder)


@pytest.mark.parametrize(("dtype", "name"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_quantized_tensor(folder, dtype, name):
    def change(weights):
        weights["model.norm.weight"] = weights["model.norm.weight"].to(dtype)

    change_weights(folder, change)
    with pytest.raises(ModelError, match=rf"model\.norm\.weight is {name}; quantized"):
        load(folder)


def test_truncated_shard(folder):
    shard = folder / SINGLE
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        load(folder)


def test_shard_that_is_no_safetensors_file(folder):
    (folder / SINGLE).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read: .*: run `git lfs"):
        load(folder)


@pytest.mark.parametrize("name", [SINGLE, INDEX])
def test_a_link_to_nothing(folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "gone")
    message = rf"{re.escape(name)} cannot be read.*; it is a link to a file that does not exist"
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_folder_without_weights(folder):
    (folder / SINGLE).unlink()
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match="has no safetensors file; weights in other formats"):
        load(folder)


def test_shard_that_is_not_there(tmp_path):
    write_model(tmp_path, "llama2", max_shard_size="60KB")
    shards = sorted(set(json.loads((tmp_path / INDEX).read_text())["weight_map"].values()))
    (tmp_path / shards[1]).unlink()
    with pytest.raises(ModelError, match=f"lists files that do not exist: {shards[1]}"):
        load(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(ModelError, match="weight_map is missing or empty"):
        load(tmp_path)


@pytest.mark.parametrize("name", [1, "../model.safetensors", "/etc/passwd", ""])
def test_an_index_names_files_beside_it(folder, name):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name, "b": "x"}}))
    with pytest.raises(ModelError, match=f"weight_map must name files beside it, got {name!r}"):
        load(folder)


def test_unsupported_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHead"]}))
    with pytest.raises(ModelError, match="'GPT2LMHead' is not supported; LlamaForCausalLM, Mist"):
        load(folder)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_registered_classes_bear_their_architectures_name(name):
    assert find_architecture(name).__name__ == name


def test_the_default_dtype_is_one_threads_at_a_time():
    seen, inside = [], threading.Event()

    def other():
        inside.wait(30)
        with default_dtype(torch.bfloat16):
            seen.append(torch.empty(0).dtype)

    thread = threading.Thread(target=other)
    thread.start()
    with default_dtype(torch.float16):
        inside.set()
        thread.join(0.5)  # it waits
        seen.append(torch.empty(0).dtype)
    thread.join(30)
    assert seen == [torch.float16, torch.bfloat16]
    assert torch.get_default_dtype() == torch.float32
