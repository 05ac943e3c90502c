"""What the configuration files of a model say. No torch in here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple, Type

from vllm.sampling_params import SamplingParams

DTYPES = ("float32", "float16", "bfloat16")


class ModelError(ValueError):
    """A model that cannot be run as it is; says which file, field, tensor or shard is at fault."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding: its base, and how its frequencies are scaled.

    scaling: the parameters of `type`, as config.json has them.
    """

    theta: float = 10000.0
    type: str = "default"
    scaling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only model, in the terms of Hugging Face's `config.json`.

    Fields that only some architectures read keep None where config.json has nothing: what that
    means is the architecture's business.
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
    use_sliding_window: Optional[bool] = None
    max_window_layers: Optional[int] = None
    layer_types: Optional[Tuple[str, ...]] = None

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """Reads `config.json` of a model folder. Raises ModelError naming the field at fault."""
        path = folder / "config.json"
        raw = _Fields(path, read_json(path))
        for unsupported in ("quantization_config", "auto_map"):
            if raw.take(unsupported, dict, None):
                raise ModelError(
                    f"{path}: {unsupported} is set; quantized models and models with code of "
                    f"their own are not supported"
                )
        activation = raw.take("hidden_act", str, "silu")
        if activation != "silu":
            raise ModelError(f"{path}: hidden_act must be silu, got {activation!r}")
        hidden_size, num_heads = raw.positive("hidden_size"), raw.positive("num_attention_heads")
        num_kv_heads = raw.positive("num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise ModelError(
                f"{path}: num_attention_heads ({num_heads}) must be a multiple of "
                f"num_key_value_heads ({num_kv_heads})"
            )
        num_layers = raw.positive("num_hidden_layers")
        dtype = raw.take("dtype", str, None) or raw.take("torch_dtype", str, None) or "float32"
        return cls(
            architecture=read_architecture(folder),
            vocab_size=raw.positive("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=raw.positive("intermediate_size"),
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=num_kv_heads,
            head_dim=raw.positive("head_dim", hidden_size // num_heads),
            max_position_embeddings=raw.positive("max_position_embeddings"),
            rms_norm_eps=raw.number("rms_norm_eps", 1e-6),
            rope=_read_rope(raw),
            tie_word_embeddings=raw.take("tie_word_embeddings", bool, False),
            dtype=_known_dtype(str(path), dtype),
            attention_bias=raw.take("attention_bias", bool, False),
            mlp_bias=raw.take("mlp_bias", bool, False),
            sliding_window=raw.positive("sliding_window", None),
            use_sliding_window=raw.take("use_sliding_window", bool, None),
            max_window_layers=raw.take("max_window_layers", int, None),
            layer_types=_read_layer_types(raw, num_layers),
        )

    @property
    def max_model_len(self) -> int:
        """Positions that the rotary embedding was made for, its scaling included."""
        if self.rope.type in ("linear", "yarn"):
            scaling = self.rope.scaling
            scaled = scaling["original_max_position_embeddings"] * scaling["factor"]
            return max(int(scaled), self.max_position_embeddings)
        return self.max_position_embeddings


@dataclass(frozen=True)
class GenerationDefaults:
    """What `generation_config.json` says: where the model's text ends, and how to sample it."""

    eos_token_ids: FrozenSet[int] = frozenset()
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> GenerationDefaults:
        """Reads a model folder; end-of-sequence tokens may be in `config.json` instead."""
        path = folder / "generation_config.json"
        raw = read_json(path) if path.exists() else {}
        eos = raw.get("eos_token_id")
        if eos is None:
            eos = read_json(folder / "config.json").get("eos_token_id")
        ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
        if not all(isinstance(token, int) for token in ids):
            raise ModelError(f"{folder}: eos_token_id must be a token id or several, got {eos!r}")
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        sampling = {name: raw[name] for name in names if raw.get(name) is not None}
        if raw.get("do_sample") is False:
            sampling = {"temperature": 0.0}
        try:
            SamplingParams(**sampling)
        except ValueError as error:
            raise ModelError(f"{path}: {error}") from error
        return cls(frozenset(ids), sampling)

    def params(self, **overrides: Any) -> SamplingParams:
        """Sampling parameters as the model's makers advise them, with changes."""
        return SamplingParams(**{**self.sampling, **overrides})


def read_architecture(folder: Path) -> str:
    """The class that a model was made for, as `config.json` names it. Raises ModelError."""
    path = folder / "config.json"
    names = _Fields(path, read_json(path)).take("architectures", list)
    if len(names) != 1 or not isinstance(names[0], str):
        raise ModelError(f"{path}: architectures must name one, got {names}")
    return str(names[0])


def read_json(path: Path) -> Dict[str, Any]:
    """A JSON object from a file of the model. Raises ModelError naming the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # also a file that is not UTF-8
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} must hold an object, got {type(raw).__name__}")
    return raw


class _Fields:
    """Typed access to a JSON object, with errors that name the file and the field."""

    _REQUIRED = object()

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path = path
        self._raw = raw

    def take(self, name: str, kind: Type[Any], default: Any = _REQUIRED) -> Any:
        """The field if it is there (null counts as not there) and of this type."""
        value = self._raw.get(name)
        if value is None:
            if default is self._REQUIRED:
                raise ModelError(f"{self.path}: {name} is missing")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ModelError(f"{self.path}: {name} must be {kind.__name__}, got {value!r}")
        return value

    def positive(self, name: str, default: Any = _REQUIRED) -> Any:
        """An integer of at least 1, or the default."""
        value = self.take(name, int, default)
        if value is not default and value < 1:
            raise ModelError(f"{self.path}: {name} must be at least 1, got {value}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number that is not negative."""
        value = default if self._raw.get(name) is None else self._raw[name]
        if not _is_number(value) or not 0 <= value < float("inf"):
            raise ModelError(f"{self.path}: {name} must be a number, at least 0, got {value!r}")
        return float(value)


def _read_rope(raw: _Fields) -> RopeConfig:
    # transformers 5 writes one object; before, the base stood beside the scaling.
    both = raw.take("rope_parameters", dict, None)
    scaling = dict(both or raw.take("rope_scaling", dict, None) or {})
    partial = scaling.pop("partial_rotary_factor", raw.number("partial_rotary_factor", 1.0))
    if partial != 1.0 or any(isinstance(value, dict) for value in scaling.values()):
        raise ModelError(
            f"{raw.path}: one rotary embedding for whole heads of all layers is supported, "
            f"got partial_rotary_factor {partial} and parameters {scaling}"
        )
    theta = scaling.pop("rope_theta", None) or raw.number("rope_theta", 10000.0)
    if not _is_number(theta) or theta <= 0:
        raise ModelError(f"{raw.path}: rope_theta must be a number above 0, got {theta!r}")
    old_name = scaling.pop("type", "default")
    kind = scaling.pop("rope_type", old_name)
    if kind in ("linear", "yarn", "llama3"):
        for name, value in scaling.items():
            if value is not None and not _is_number(value) and not isinstance(value, bool):
                raise ModelError(
                    f"{raw.path}: {name} of the {kind} rope scaling must be a number, got {value!r}"
                )
        factor: Any = scaling.get("factor")
        if not _is_number(factor) or factor < 1:
            raise ModelError(
                f"{raw.path}: the {kind} rope scaling needs a factor of at least 1, got {factor!r}"
            )
        scaling.setdefault(
            "original_max_position_embeddings", raw.positive("max_position_embeddings")
        )
    return RopeConfig(float(theta), str(kind), scaling)


def _read_layer_types(raw: _Fields, num_layers: int) -> Optional[Tuple[str, ...]]:
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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _known_dtype(where: str, dtype: str) -> str:
    if dtype not in DTYPES:
        raise ModelError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype
