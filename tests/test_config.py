"""config.json and generation_config.json as the hub has them, and what is refused in them."""

from __future__ import annotations

import json

import pytest

from vllm.config import GenerationDefaults, ModelConfig, ModelError, read_json
from vllm.limits import HEAD_SIZES, MAX_WIDTH

MINIMAL = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
MISTRAL = {"architectures": ["MistralForCausalLM"], "num_key_value_heads": 2}


@pytest.fixture
def read(tmp_path):
    """read(**changes to a minimal config.json) -> ModelConfig; None removes a field."""

    def write_and_read(**changes):
        raw = {k: v for k, v in {**MINIMAL, **changes}.items() if v is not None}
        (tmp_path / "config.json").write_text(json.dumps(raw))
        return ModelConfig.read(tmp_path)

    return write_and_read


def test_defaults_are_those_of_the_makers(read):
    config = read()
    assert config.num_key_value_heads == 4
    assert config.head_dim == 16
    assert config.dtype == "float32"
    assert config.rope.theta == 10000.0
    assert config.rope.type == "default"
    assert config.max_model_len == 512
    assert not config.tie_word_embeddings
    assert config.sliding_window is None


@pytest.mark.parametrize(
    "written",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}},
    ],
)
def test_rope_is_read_as_old_and_new_files_write_it(read, written):
    config = read(**written)
    assert (config.rope.theta, config.rope.type) == (5e5, "linear")
    assert config.rope.scaling["factor"] == 4
    assert config.max_model_len == 2048


def test_the_context_that_rope_scaling_gives(read):
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert read(rope_scaling=yarn).max_model_len == 2048
    assert read(rope_scaling=yarn, max_position_embeddings=4096).max_model_len == 4096
    llama3 = {**yarn, "rope_type": "llama3"}  # max_position_embeddings already says it
    assert read(rope_scaling=llama3, max_position_embeddings=1024).max_model_len == 1024


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_dtype_under_both_its_names(read, field):
    assert read(**{field: "bfloat16"}).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"hidden_size": "big"}, "hidden_size must be int, got 'big'"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a number, at least 0, got -1"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a number, at least 0, got 'small'"),
        (
            {**MISTRAL, "sliding_window": 0},
            "sliding_window must be at least 1, got 0",
        ),
        ({"rope_theta": -1.0}, "rope_theta must be a number, at least 0, got -1.0"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta must be a number above 0, got 'x'"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_theta must be a number above 0, got 0"),
        (
            {"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": "x"}},
            "low_freq_factor of the llama3 rope scaling must be a number, got 'x'",
        ),
        (
            {"layer_types": ["full_attention"]},
            r"for each of the 2 layers, got \['full_attention'\]",
        ),
        ({"layer_types": ["full_attention", "other"]}, "layer_types must be one of full_attention"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, got 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be int, got True"),
        ({"num_key_value_heads": 3}, r"num_attention_heads \(4\) must be a multiple of .* \(3\)"),
        ({"architectures": None}, "architectures is missing"),
        ({"architectures": ["A", "B"]}, r"must list exactly one name, got \['A', 'B'\]"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', which .* it must be absent or 'silu'"),
        ({"torch_dtype": "float8"}, "dtype must be one of float32, float16, bfloat16"),
        (
            {"quantization_config": {"bits": 4}},
            "quantization_config is {'bits': 4}, which is not supported",
        ),
        (
            {"auto_map": {"AutoModel": "x"}},
            "auto_map is {'AutoModel': 'x'}, which is not supported",
        ),
        ({"model_type": "granite"}, "model_type is 'granite', but architectures names Llama"),
        (
            {"sliding_window": 64},
            "sliding_window is 64, which is not supported for LlamaForCausalLM",
        ),
        (
            {"architectures": ["Qwen3ForCausalLM"], "num_experts": 8},
            "num_experts is 8, which is not supported for Qwen3ForCausalLM",
        ),
        ({"attention_multiplier": 0.1}, "attention_multiplier is 0.1, .* it must be absent$"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0, .* absent or 0$"),
        ({"rope_parameters": {"rope_theta": float("inf")}}, "rope_theta must be a number above 0"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps must be a number, at least 0, got 1000"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number, at least 0, got nan"),
        (
            {"rope_scaling": {"type": "linear", "factor": float("nan")}},
            "factor of the linear rope scaling must be a number, got nan",
        ),
        ({"layer_types": ["sliding_attention"] * 2}, "but use_sliding_window is False and sl"),
        (
            {**MISTRAL, "layer_types": ["full_attention"] * 2},
            "layer_types must be sliding_attention on all layers .* with sliding_window 4096",
        ),
        (
            {"architectures": ["Qwen3ForCausalLM"], "mlp_bias": True},
            "mlp_bias is True, which is not supported for Qwen3ForCausalLM; it must be absent or",
        ),
        ({"rope_scaling": {"type": "yarn"}}, "yarn rope scaling needs a factor of at least 1"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor of at least 1, got 0.5"),
        ({"partial_rotary_factor": 0.5}, "got partial_rotary_factor 0.5"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "must cover whole heads"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(read, changes, message):
    with pytest.raises(ModelError, match=r"config\.json: .*" + message):
        read(**changes)


SAMPLES = [1, 2, 4, 6, 7, 8, 9, 12, 16, 20, 24, 64, 80, 128, 248, 250, 256, 257, 264, 272, 512]


@pytest.mark.parametrize("head_dim", SAMPLES)
def test_heads_that_attention_does_not_take_are_refused(read, head_dim):
    if head_dim in HEAD_SIZES:
        assert read(head_dim=head_dim).head_dim == head_dim
        return
    message = f"head_dim is {head_dim}; attention supports heads of 8 to 256 elements, in steps of"
    with pytest.raises(ModelError, match=message):
        read(head_dim=head_dim)
    with pytest.raises(ModelError, match=message):  # where config.json does not say it
        read(hidden_size=4 * head_dim + 3)


@pytest.mark.parametrize(
    ("architecture", "changes", "name"),
    [
        ("LlamaForCausalLM", {"vocab_size": MAX_WIDTH + 1}, "vocab_size"),
        ("LlamaForCausalLM", {"hidden_size": MAX_WIDTH + 1, "head_dim": 8}, "hidden_size"),
        ("LlamaForCausalLM", {"intermediate_size": 2**30}, r"intermediate_size \(twice\)"),
        ("LlamaForCausalLM", {"num_attention_heads": 2**28, "head_dim": 8}, "query, key and value"),
        ("LlamaForCausalLM", {"max_position_embeddings": 2**31}, "max_position_embeddings"),
        ("MistralForCausalLM", {"sliding_window": 2**31}, "sliding_window"),
    ],
)
def test_sizes_that_ops_cannot_count_to_are_refused(read, architecture, changes, name):
    given = {"architectures": [architecture], "num_key_value_heads": 1, **changes}
    with pytest.raises(ModelError, match=rf"{name} is \d+; the ops support at most 2147483647"):
        read(**given)


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(ModelError, match=r"config\.json cannot be read: No such file"):
        ModelConfig.read(tmp_path)
    path.write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        ModelConfig.read(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        ModelConfig.read(tmp_path)
    path.write_text("[]")
    with pytest.raises(ModelError, match="must hold an object, got list"):
        ModelConfig.read(tmp_path)


def test_generation_defaults(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 5}))
    assert GenerationDefaults.read(tmp_path).eos_token_ids == {5}
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [6, 7], "temperature": 0.6, "top_k": 20}))
    defaults = GenerationDefaults.read(tmp_path)
    assert defaults.eos_token_ids == {6, 7}
    assert defaults.params(max_tokens=3).temperature == 0.6
    assert defaults.params(temperature=0.1).top_k == 20
    path.write_text(json.dumps({"do_sample": False, "temperature": 0.6}))
    assert GenerationDefaults.read(tmp_path).params().is_greedy


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"temperature": "hot"}, r"generation_config\.json: temperature must be a number in"),
        ({"top_p": 0.0}, r"generation_config\.json: top_p must be a number in \(0, 1\]"),
        ({"eos_token_id": "</s>"}, "eos_token_id must be a token id or several, got '</s>'"),
        ({"eos_token_id": [1, 2.5]}, r"eos_token_id must be a token id or several, got \[1, 2.5\]"),
    ],
)
def test_advice_that_cannot_be_followed_names_its_file(tmp_path, written, message):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    with pytest.raises(ModelError, match=message):
        GenerationDefaults.read(tmp_path)


def test_a_file_nested_without_end(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(ModelError, match=r"config\.json is not JSON: maximum recursion depth"):
        read_json(path)


@pytest.mark.parametrize(
    "name", ["generation_config.json", "config.json"], ids=["may be absent", "must not be"]
)
def test_a_link_to_nothing_is_not_an_absent_file(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    reader = GenerationDefaults if name.startswith("generation") else ModelConfig
    with pytest.raises(ModelError, match=rf"{name} cannot be read: .*; it is a link to a file"):
        reader.read(tmp_path)
