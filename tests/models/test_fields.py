"""Fields of config.json and tensors that could make another model: as transformers has them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.models.support import TinyModel, change_config, prompts_of
from vllm.config import ModelConfig, ModelError
from vllm.llm import LLM
from vllm.models.checkpoint import SINGLE
from vllm.sampling_params import SamplingParams

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def assert_same_tokens(folder):
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = prompts_of([20, 7])
    params = SamplingParams(temperature=0, max_tokens=16)
    outputs = LLM(str(folder), skip_tokenizer_init=True, num_kv_blocks=16).generate(prompts, params)
    expected = [TinyModel(folder, reference).greedy(prompt, 16) for prompt in prompts]
    assert [output.outputs[0].token_ids for output in outputs] == expected


@pytest.fixture
def copy(tiny, tmp_path):
    """copy(family) -> a folder of it, to be changed."""
    return lambda family: shutil.copytree(tiny(family).folder, tmp_path / "model")


@pytest.mark.parametrize("stored", ["equal", "other", "instead"])
def test_a_head_that_is_stored_though_config_ties_it(copy, stored):
    folder = copy("qwen3")
    weights = load_file(folder / SINGLE)
    embedding = weights[EMBEDDING]
    weights[HEAD] = embedding.flip(0).contiguous() if stored == "other" else embedding.clone()
    if stored == "instead":
        del weights[EMBEDDING]
    save_file(weights, folder / SINGLE, metadata={"format": "pt"})
    assert_same_tokens(folder)


@pytest.mark.parametrize("part", ["first", "last"])
def test_a_head_is_compared_to_its_end(copy, part, monkeypatch):
    monkeypatch.setattr("vllm.models.loader._COMPARED", 64 * 7)  # 7 rows at a time
    folder = copy("qwen3")
    weights = load_file(folder / SINGLE)
    weights[HEAD] = weights[EMBEDDING].clone()
    weights[HEAD][0 if part == "first" else -1] *= -50
    save_file(weights, folder / SINGLE, metadata={"format": "pt"})
    assert_same_tokens(folder)


# What transformers takes where a field is not there, for each that it does not require.
OPTIONAL = [
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
]
MINIMAL = {
    "vocab_size": 100,
    "hidden_size": 2048,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("window", [None, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_absent_fields_are_what_transformers_takes(tmp_path, family, window):
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    raw = {**MINIMAL, "model_type": family, "architectures": [f"{names[family]}ForCausalLM"]}
    if window and family.startswith("qwen"):
        raw["use_sliding_window"] = True
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config, reference = ModelConfig.read(tmp_path), AutoConfig.from_pretrained(tmp_path)
    for name in OPTIONAL:
        if name == "sliding_window" and family.startswith("qwen") and not window:
            continue  # transformers drops what is not used
        if hasattr(reference, name):
            assert getattr(config, name) == getattr(reference, name), name
    assert config.rope.theta == reference.rope_parameters["rope_theta"]
    assert config.rope.type == reference.rope_parameters["rope_type"]


def test_mistral_without_a_window_sees_4096_tokens(copy):
    """transformers' default, since config.json says null where there is none."""
    folder = copy("mistral")
    change_config(folder, sliding_window=None, max_position_embeddings=4300)
    assert AutoConfig.from_pretrained(folder).sliding_window == 4096
    prompt = prompts_of([4200])[0]
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    llm = LLM(str(folder), skip_tokenizer_init=True, num_kv_blocks=300)
    params = SamplingParams(temperature=0, max_tokens=1, logprobs=5)
    found = llm.generate([prompt], params)[0].outputs[0].logprobs[0]
    for token, entry in found.items():
        assert entry.logprob == pytest.approx(expected[token].item(), abs=2e-3)
    assert set(found) == set(expected.topk(5).indices.tolist())


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 5e5},
        {
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
        },
        {
            "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4},
            "original_max_position_embeddings": 20,
        },
        {"hidden_act": "swish"},
        {"attention_dropout": 0.5, "pretraining_tp": 1},
    ],
    ids=["rope_scaling", "both ropes", "original context", "swish", "of training"],
)
def test_fields_that_are_read_as_transformers_reads_them(copy, changes):
    folder = copy("llama2")
    change_config(folder, rope_parameters=None)
    change_config(folder, **changes)
    assert_same_tokens(folder)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2", {"layer_types": ["sliding_attention"] * 3}),
        ("qwen2-window", {"sliding_window": 0}),
        ("llama2", {"sliding_window": 9}),
    ],
)
def test_windows_without_one_meaning_are_refused(copy, family, changes):
    """transformers raises in the first step, or gives other tokens with its cache than without."""
    folder = copy(family)
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=r"config\.json: (layer_types|sliding_window)"):
        ModelConfig.read(folder)
