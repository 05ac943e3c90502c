"""Per architecture: defaults of absent fields, and fields that it ignores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from vllm.config.fields import Fields, ModelError

Neutral = Mapping[str, Tuple[Any, ...]]


@dataclass(frozen=True)
class Family:
    """How transformers reads config.json for an architecture.

    absent: its defaults of absent fields, where they differ between architectures.
    neutral: fields that it ignores although other architectures here use them, with the values that
        mean no change.
    """

    model_type: str = ""
    absent: Mapping[str, Any] = field(default_factory=dict)
    neutral: Neutral = field(default_factory=dict)


_QWEN = {"num_key_value_heads": 32, "sliding_window": 4096}
_NO_BIAS: Neutral = {"mlp_bias": (False,)}

FAMILIES: Mapping[str, Family] = {
    # With a sliding window, transformers generates different tokens with and without its KV cache.
    "LlamaForCausalLM": Family(
        "llama", neutral={"sliding_window": (), "use_sliding_window": (False,)}
    ),
    "MistralForCausalLM": Family(
        "mistral",
        absent={"num_key_value_heads": 8, "sliding_window": 4096},
        neutral={"attention_bias": (False,), **_NO_BIAS},
    ),
    "Qwen2ForCausalLM": Family("qwen2", absent=_QWEN, neutral=_NO_BIAS),
    "Qwen3ForCausalLM": Family("qwen3", absent={**_QWEN, "head_dim": 128}, neutral=_NO_BIAS),
}

# Fields that change the computation in other architectures, with the values that mean no change.
_NEUTRAL: Neutral = {
    "quantization_config": ({},),
    "compression_config": ({},),
    "auto_map": ({},),
    "hidden_act": ("silu", "swish"),
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "query_pre_attn_scalar": (),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "scale_emb": (1,),
    "scale_depth": (1,),
    "no_rope_layers": ([],),
    "attention_chunk_size": (0,),
    "num_experts": (0,),
    "num_local_experts": (0,),
}


def refuse_unsupported_fields(raw: Fields, architecture: str) -> None:
    """Raises ModelError for fields that require a computation which is not implemented."""
    family = FAMILIES.get(architecture, Family())
    model_type = raw.take("model_type", str, family.model_type)
    if family.model_type and model_type != family.model_type:
        raise ModelError(
            f"{raw.path}: model_type is {model_type!r}, but architectures names {architecture}, "
            f"whose model_type is {family.model_type!r}; one of them is wrong"
        )
    for name, neutral in {**_NEUTRAL, **family.neutral}.items():
        value = raw.take(name, object, None)
        if value is not None and value not in neutral:
            allowed = " or ".join(["absent", *(repr(each) for each in neutral)])
            raise ModelError(
                f"{raw.path}: {name} is {value!r}, which is not supported for {architecture}; it "
                f"must be {allowed}"
            )
