"""config.json and generation_config.json as the hub has them, and what is refused in them."""

from __future__ import annotations

import json

import pytest

from vllm.config import EngineArgs, GenerationDefaults, ModelConfig, ModelError

MINIMAL = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


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
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, got 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be int, got True"),
        ({"num_key_value_heads": 3}, r"num_attention_heads \(4\) must be a multiple of .* \(3\)"),
        ({"architectures": None}, "architectures is missing"),
        ({"architectures": ["A", "B"]}, r"architectures must name one, got \['A', 'B'\]"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu, got 'gelu'"),
        ({"torch_dtype": "float8"}, "dtype must be one of float32, float16, bfloat16"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is set"),
        ({"auto_map": {"AutoModel": "x"}}, "auto_map is set"),
        ({"rope_scaling": {"type": "yarn"}}, "yarn rope scaling needs a factor of at least 1"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor of at least 1, got 0.5"),
        ({"partial_rotary_factor": 0.5}, "got partial_rotary_factor 0.5"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "for whole heads of all"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(read, changes, message):
    with pytest.raises(ModelError, match=r"config\.json: .*" + message):
        read(**changes)


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
    ("changes", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be an integer, at least 1, got 0"),
        ({"block_size": -1}, "block_size must be an integer, at least 1, got -1"),
        ({"max_model_len": 1.5}, "max_model_len must be an integer, at least 1, got 1.5"),
        ({"num_kv_blocks": 0}, "num_kv_blocks must be"),
        ({"kv_cache_memory_bytes": "4G"}, "kv_cache_memory_bytes must be"),
        ({"gpu_memory_utilization": 0}, r"gpu_memory_utilization must be in \(0, 1\], got 0"),
        ({"gpu_memory_utilization": 1.1}, r"gpu_memory_utilization must be in \(0, 1\]"),
        ({"dtype": "float8"}, "dtype must be one of"),
        ({"max_num_batched_tokens": 255}, r"at least max_num_seqs \(256\), got 255"),
    ],
)
def test_engine_args_name_the_field_and_its_range(changes, message):
    with pytest.raises(ValueError, match=message):
        EngineArgs("model", **changes)


def test_the_token_budget():
    assert EngineArgs("m").token_budget(100) == 2048
    assert EngineArgs("m", max_num_seqs=4000).token_budget(100) == 4000
    whole = EngineArgs("m", enable_chunked_prefill=False)
    assert whole.token_budget(9000) == 9000
    small = EngineArgs("m", enable_chunked_prefill=False, max_num_batched_tokens=512)
    with pytest.raises(ValueError, match=r"at least max_model_len \(9000\) without chunked"):
        small.token_budget(9000)
