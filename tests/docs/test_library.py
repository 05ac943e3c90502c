"""docs/library.md names arguments that exist, and their defaults."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from vllm.engine_args import EngineArgs
from vllm.sampling_params import SamplingParams

PAGE = (Path(__file__).parents[2] / "docs/library.md").read_text(encoding="utf-8")


def test_the_table_has_the_engines_defaults():
    defaults = {field.name: field.default for field in dataclasses.fields(EngineArgs)}
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    shown = re.findall(r"`(\w+)` \(`?\"?([\w.]+)\"?`?\)", " ".join(rows))
    assert len(names) > len(shown) > 3
    assert set(names) <= set(defaults)
    assert {name: str(defaults[name]) for name, _ in shown} == dict(shown)


def test_the_text_has_the_defaults_of_sampling_parameters():
    params = SamplingParams()
    assert f"`max_tokens` is {params.max_tokens} by default" in PAGE
    assert f"samples at temperature {params.temperature:g}" in PAGE
