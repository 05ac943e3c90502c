"""What the architectures make of fields that are absent, and of those that they do not know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from vllm.config.fields import Fields, ModelError

Neutral = Mapping[str, Tuple[Any, ...]]


@dataclass(frozen=True)
class Family:
    """How transformers reads config.json for an architecture.

    absent: what it takes for a field that is not there, where that differs between architectures.
    neutral: fields that it does not honour though others of these architectures do, with the values
        that change nothing.
    """

    model_type: str = ""
    absent: Mapping[str, Any] = field(default_factory=dict)
    neutral: Neutral = field(default_factory=dict)


_QWEN = {"num_key_value_heads": 32, "sliding_window": 4096}
_NO_BIAS: Neutral = {"mlp_bias": (False,)}

FAMILIES: Mapping[str, Family] = {
    # With a window, transformers gives other tokens with its cache than without.
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

# Fields by which other architectures compute something else, with the values that change nothing.
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


def refuse_what_is_not_computed(raw: Fields, architecture: str) -> None:
    """Raises ModelError for fields that ask for another computation than the architecture's."""
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
                f"{raw.path}: {name} is {value!r}, which is not supported in {architecture}; it "
                f"must be {allowed}"
            )
