"""The rotary position embedding that `config.json` describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from vllm.config.fields import Fields, ModelError, is_number


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (RoPE): its base `theta`, and how its frequencies are scaled.

    scaling: the parameters of the scaling `type`, as in config.json.
    """

    theta: float = 10000.0
    type: str = "default"
    scaling: Mapping[str, Any] = field(default_factory=dict)


def read_rope(raw: Fields) -> RopeConfig:
    """Reads the old and the new layout of the file. Raises ModelError naming the faulty field."""
    # transformers 5 writes one object, rope_parameters; older versions write rope_theta and
    # rope_scaling. If a file has both, transformers uses the older fields.
    older = raw.take("rope_scaling", dict, None)
    scaling = dict(older or raw.take("rope_parameters", dict, None) or {})
    partial = scaling.pop("partial_rotary_factor", raw.number("partial_rotary_factor", 1.0))
    if partial != 1.0 or any(isinstance(value, dict) for value in scaling.values()):
        raise ModelError(
            f"{raw.path}: a rotary embedding must cover whole heads and be the same in all layers, "
            f"got partial_rotary_factor {partial} and parameters {scaling}"
        )
    theta = scaling.pop("rope_theta", None)
    if theta is None:
        theta = raw.number("rope_theta", 10000.0)
    if not is_number(theta) or theta <= 0:
        raise ModelError(f"{raw.path}: rope_theta must be a number above 0, got {theta!r}")
    old_name = scaling.pop("type", "default")
    kind = scaling.pop("rope_type", old_name)
    if kind in ("linear", "yarn", "llama3"):
        for name, value in scaling.items():
            if value is not None and not is_number(value) and not isinstance(value, bool):
                raise ModelError(
                    f"{raw.path}: {name} of the {kind} rope scaling must be a number, got {value!r}"
                )
        factor: Any = scaling.get("factor")
        if not is_number(factor) or factor < 1:
            raise ModelError(
                f"{raw.path}: the {kind} rope scaling needs a factor of at least 1, got {factor!r}"
            )
        original = raw.positive("original_max_position_embeddings", None)
        if original is not None and kind != "linear":  # overrides the object's value
            scaling["original_max_position_embeddings"] = original
        scaling.setdefault(
            "original_max_position_embeddings", raw.positive("max_position_embeddings")
        )
    return RopeConfig(float(theta), str(kind), scaling)
