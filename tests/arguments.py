"""How each of vLLM's arguments is handled: docs/arguments.md is generated from the code.

python -m tests.arguments       writes the page
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from vllm.engine_args import EngineArgs
from vllm.entrypoints.bench.foreign import OFFLINE
from vllm.entrypoints.bench.foreign import SERVE as BENCH_SERVE
from vllm.foreign import CALLS, ENGINE, METHODS, SAMPLING, SERVE, Foreign, Ignored, Renamed
from vllm.sampling_params import SamplingParams

DOCUMENT = Path(__file__).parents[1] / "docs/arguments.md"

HEAD = """# vLLM's arguments

A script written for vLLM runs unchanged, or gets an error that names the unsupported argument: a
value that this page does not accept raises ValueError with the reason. Names are those of vLLM 0.5
to 0.11. A name that neither library has raises TypeError.

This page is generated from the code (`python -m tests.arguments`), and a test compares it."""


def described(docstring: str) -> Dict[str, str]:
    """The arguments that a docstring describes, as "name, other: text", over several lines."""
    found: Dict[str, str] = {}
    names: List[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        begins = re.match(r"([a-z_]+(?:, [a-z_]+)*): (.+)", line)
        if begins:
            names = begins[1].split(", ")
            found.update(dict.fromkeys(names, begins[2]))
        elif line.startswith("    "):
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        else:
            names = []
    return found


def own(cls: Any) -> Iterator[Tuple[str, str]]:
    texts = described(cls.__doc__)
    for field in dataclasses.fields(cls):
        default = field.default
        shown = "" if default is dataclasses.MISSING else f", {getattr(default, 'name', default)!r}"
        if isinstance(default, str):
            shown = f', "{default}"'
        yield f"`{field.name}`{shown.replace(', ', ' = ', 1)}", texts.get(field.name, "")


def others(table: Mapping[str, Foreign], taken: Any = None) -> Iterator[Tuple[str, str]]:
    fields = {field.name for field in dataclasses.fields(taken)} if taken else set()
    for name, known in sorted(table.items()):
        if name in fields:
            continue
        if isinstance(known, Renamed):
            yield f"`{name}`", f"`{known.name}` here"
        elif isinstance(known, Ignored):
            yield f"`{name}`", f"any value; it has no effect ({known.why})"
        else:
            values = " or ".join(f"`{value!r}`" for value in (*known.values, None))
            yield f"`{name}`", f"{values}: {known.why}"


def options(table: Mapping[str, Foreign]) -> Iterator[Tuple[str, str]]:
    """Options of a command beside those that --help has and those of the engine."""
    for name, what in others(table):
        yield f"`--{name.strip('`').replace('_', '-')}`", what


def page() -> str:
    sections = [
        ("`LLM` and `EngineArgs`", own(EngineArgs), others(ENGINE, EngineArgs)),
        ("`SamplingParams`", own(SamplingParams), others(SAMPLING, SamplingParams)),
        ("`vllm serve`", iter(()), options(SERVE)),
        ("`vllm bench throughput` and `vllm bench latency`", iter(()), options(OFFLINE)),
        ("`vllm bench serve`", iter(()), options(BENCH_SERVE)),
        ("`LLM.generate`, `LLM.chat` and `LLM.beam_search`", iter(()), others(CALLS)),
    ]
    lines = [HEAD]
    for title, here, foreign in sections:
        rows = list(here)
        lines += ["", f"## {title}"]
        if rows:
            lines += ["", "| argument | what it is |", "| --- | --- |"]
            lines += [f"| {name} | {text} |" for name, text in rows]
        lines += ["", "| vLLM's | accepted here |", "| --- | --- |"]
        lines += [f"| {name} | {text} |" for name, text in foreign]
    lines += [
        "",
        "## Methods of `LLM` that are not supported",
        "",
        "| method | why |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | {why} |" for name, why in METHODS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
