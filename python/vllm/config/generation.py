"""Reads `generation_config.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, FrozenSet, Mapping

from vllm.config.fields import ModelError, is_present, read_json
from vllm.sampling_params import SamplingParams


@dataclass(frozen=True)
class GenerationDefaults:
    """The contents of `generation_config.json`: end-of-sequence tokens and sampling defaults."""

    eos_token_ids: FrozenSet[int] = frozenset()
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> GenerationDefaults:
        """Reads a model folder; end-of-sequence tokens may be in `config.json` instead."""
        path = folder / "generation_config.json"
        raw = read_json(path) if is_present(path) else {}
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
        """The model's default sampling parameters, with `overrides`."""
        return SamplingParams(**{**self.sampling, **overrides})
