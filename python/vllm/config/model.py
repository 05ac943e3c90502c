"""Reads and checks `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Tuple

from vllm.config.families import FAMILIES, Family, refuse_unsupported_fields
from vllm.config.fields import Fields, ModelError, read_json
from vllm.config.rope import RopeConfig, read_rope
from vllm.limits import HEAD_SIZES, MAX_WIDTH

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only model, in the terms of Hugging Face's `config.json`.

    Absent fields have the defaults that transformers uses for the architecture. A field that
    changes what the model computes is either listed here or refused when the file is read.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool
    dtype: str
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: Optional[int] = None
    use_sliding_window: bool = False
    max_window_layers: int = 28
    layer_types: Optional[Tuple[str, ...]] = None

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """Reads `config.json` of a model folder. Raises ModelError naming the field at fault."""
        path = folder / "config.json"
        architecture = read_architecture(folder)
        family = FAMILIES.get(architecture, Family())
        raw = Fields(path, {**family.absent, **read_json(path)})
        refuse_unsupported_fields(raw, architecture)
        hidden_size, num_heads = raw.positive("hidden_size"), raw.positive("num_attention_heads")
        num_kv_heads = raw.positive("num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise ModelError(
                f"{path}: num_attention_heads ({num_heads}) must be a multiple of "
                f"num_key_value_heads ({num_kv_heads})"
            )
        num_layers = raw.positive("num_hidden_layers")
        dtype = raw.take("dtype", str, None) or raw.take("torch_dtype", str, None) or "float32"
        config = cls(
            architecture=architecture,
            vocab_size=raw.positive("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=raw.positive("intermediate_size"),
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=num_kv_heads,
            head_dim=raw.positive("head_dim", hidden_size // num_heads),
            max_position_embeddings=raw.positive("max_position_embeddings"),
            rms_norm_eps=raw.number("rms_norm_eps", 1e-6),
            rope=read_rope(raw),
            tie_word_embeddings=raw.take("tie_word_embeddings", bool, False),
            dtype=_known_dtype(str(path), dtype),
            attention_bias=raw.take("attention_bias", bool, False),
            mlp_bias=raw.take("mlp_bias", bool, False),
            sliding_window=raw.positive("sliding_window", None),
            use_sliding_window=raw.take("use_sliding_window", bool, False),
            max_window_layers=raw.take("max_window_layers", int, 28),
            layer_types=_read_layer_types(raw, num_layers),
        )
        _refuse_contradicting_windows(path, config)
        _refuse_unsupported_sizes(path, config)
        return config

    @property
    def max_model_len(self) -> int:
        """The most positions that the rotary embedding supports, scaling included."""
        if self.rope.type in ("linear", "yarn"):
            scaling = self.rope.scaling
            scaled = scaling["original_max_position_embeddings"] * scaling["factor"]
            return max(int(scaled), self.max_position_embeddings)
        return self.max_position_embeddings


def read_architecture(folder: Path) -> str:
    """The architecture (model class) that `config.json` names. Raises ModelError."""
    path = folder / "config.json"
    names = Fields(path, read_json(path)).take("architectures", list)
    if len(names) != 1 or not isinstance(names[0], str):
        raise ModelError(f"{path}: architectures must list exactly one name, got {names}")
    return str(names[0])


def _read_layer_types(raw: Fields, num_layers: int) -> Optional[Tuple[str, ...]]:
    types: Optional[List[Any]] = raw.take("layer_types", list, None)
    if types is None:
        return None
    known = ("full_attention", "sliding_attention")
    if len(types) != num_layers or not all(kind in known for kind in types):
        raise ModelError(
            f"{raw.path}: layer_types must be one of {', '.join(known)} for each of the "
            f"{num_layers} layers, got {types}"
        )
    return tuple(types)


def _refuse_contradicting_windows(path: Path, config: ModelConfig) -> None:
    """Raises ModelError if `layer_types` contradicts the fields of the sliding window."""
    types = set(config.layer_types or ())
    if config.architecture == "MistralForCausalLM":  # one kind for all layers
        kind = "sliding_attention" if config.sliding_window else "full_attention"
        if types - {kind}:
            raise ModelError(
                f"{path}: layer_types must be {kind} on all layers of {config.architecture} with "
                f"sliding_window {config.sliding_window}, got {list(config.layer_types or ())}"
            )
    elif "sliding_attention" in types and not (config.use_sliding_window and config.sliding_window):
        raise ModelError(
            f"{path}: layer_types has sliding_attention, but use_sliding_window is "
            f"{config.use_sliding_window} and sliding_window is {config.sliding_window}"
        )


def _refuse_unsupported_sizes(path: Path, config: ModelConfig) -> None:
    """Raises ModelError for sizes that the ops do not support."""
    if config.head_dim not in HEAD_SIZES:
        raise ModelError(
            f"{path}: head_dim is {config.head_dim}; attention supports heads of {HEAD_SIZES[0]} "
            f"to {HEAD_SIZES[-1]} elements, in steps of {HEAD_SIZES.step}"
        )
    query = config.num_attention_heads + 2 * config.num_key_value_heads
    widths = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size (twice)": 2 * config.intermediate_size,
        "query, key and value": query * config.head_dim,
        "max_position_embeddings": config.max_model_len,
        "sliding_window": config.sliding_window or 0,
    }
    for name, width in widths.items():
        if width > MAX_WIDTH:
            raise ModelError(f"{path}: {name} is {width}; the ops support at most {MAX_WIDTH}")


def _known_dtype(where: str, dtype: str) -> str:
    if dtype not in DTYPES:
        raise ModelError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype
