"""Refused inputs and their error messages: writes docs/bad-inputs.md from real errors.

    python -m tests.bad_inputs      runs every case and writes the page

Each case changes one thing about a model or a call that works.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from safetensors.torch import load_file, save_file

from tests.models.support import change_config, write_model, write_tokenizer
from vllm import LLM, SamplingParams
from vllm.entrypoints.cli import main as cli

DOCUMENT = Path(__file__).parents[1] / "docs/bad-inputs.md"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
USER = {"role": "user", "content": "hi"}

SAMPLING: List[Dict[str, Any]] = [
    {"n": 0},
    {"temperature": -1},
    {"temperature": float("nan")},
    {"top_p": 0},
    {"top_k": -2},
    {"min_p": 1.5},
    {"repetition_penalty": 0},
    {"presence_penalty": 3},
    {"frequency_penalty": "high"},
    {"seed": 2**63},
    {"max_tokens": 0},
    {"min_tokens": -1},
    {"logprobs": 300},
    {"prompt_logprobs": True},
    {"stop": ""},
    {"stop_token_ids": [-1]},
    {"ignore_eos": "yes"},
    {"output_kind": "delta"},
    {"min_tokens": 20, "max_tokens": 10},
    {"n": 2, "temperature": 0},
    {"logit_bias": {5: 101.0}},
    {"best_of": 2},
    {"stop": "x", "detokenize": False},
]
ENGINE: List[Dict[str, Any]] = [
    {"model": "gpt2"},
    {"tokenizer": "./gone"},
    {"dtype": "int8"},
    {"device": "tpu"},
    {"max_model_len": 5000},
    {"max_num_seqs": 0},
    {"max_num_batched_tokens": 100},
    {"max_num_batched_tokens": 64, "max_num_seqs": 8, "enable_chunked_prefill": False},
    {"block_size": 1.5},
    {"num_kv_blocks": 5, "max_model_len": 150},
    {"num_kv_blocks": None, "kv_cache_memory_bytes": 100},
    {"num_kv_blocks": 10**12},
    {"gpu_memory_utilization": 1.5},
    {"seed": "today"},
    {"pipeline_parallel_size": 2},
    {"quantization": "awq"},
    {"enable_lora": True},
    {"tensor_parallel_size": 0},
    {"tensor_parallel_size": 3},
    {"distributed_executor_backend": "slurm"},
]
PROMPTS: List[Any] = [
    "",
    [[]],
    None,
    {"text": "hi"},
    {"prompt": 5},
    [[1, 320]],
    [[1.5]],
    [b"hi"],
    "\udcff",
    [[1] * 160],
    "a" * 100_000,
]
OUTSIDE = SamplingParams(stop_token_ids=[999])
PARAMS: List[Any] = [{"temperature": 0}, [SamplingParams()] * 2, OUTSIDE]
CHATS: List[Tuple[Any, Dict[str, Any]]] = [
    ([], {}),
    ("hi", {}),
    ([{"content": "hi"}], {}),
    ([{"role": "user", "content": 5}], {}),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], {}),
    ([USER], {"tools": "add"}),
    ([USER], {"continue_final_message": True}),
    ([USER], {"chat_template": "{% for i in range(9**9) %}{% endfor %}"}),
    ([USER], {"chat_template": "{{ 'x' * 10**10 }}"}),
    ([USER], {"chat_template": "{% if %}"}),
    ([USER], {"chat_template": "{{ raise_exception('roles must alternate') }}"}),
    ([USER], {"chat_template": "{{ ''.__class__.__mro__ }}"}),
]
CONFIG: List[Dict[str, Any]] = [
    {"architectures": ["GPT2LMHeadModel"]},
    {"vocab_size": None},
    {"hidden_size": "wide"},
    {"num_key_value_heads": 3},
    {"hidden_act": "gelu"},
    {"quantization_config": {"bits": 4}},
    {"rope_parameters": {"rope_type": "longrope"}},
    {"rope_parameters": {"rope_type": "yarn"}},
    {"layer_types": ["full_attention"]},
    {"layer_types": ["sliding_attention"] * 3},
    {"head_dim": 12},
    {"head_dim": 264},
    {"model_type": "granite"},
    {"mlp_bias": True},
    {"final_logit_softcapping": 30.0},
    {"partial_rotary_factor": 0.5},
    {"tie_word_embeddings": False},
    {"eos_token_id": "</s>"},
]
COMMANDS: List[List[str]] = [
    ["generate", "MODEL", "--prompt", "x", "--top-p", "2"],
    ["generate", "MODEL", "--prompt", ""],
    ["generate", "./gone", "--prompt", "x"],
    ["bench", "throughput", "MODEL", "--num-prompts", "0"],
    ["bench", "throughput", "MODEL", "--input-len", "0"],
    ["bench", "throughput", "MODEL", "--async-engine"],
    ["bench", "latency", "MODEL", "--output-json", "./gone/x.json"],
]


def change_weights(folder: Path, changes: Dict[str, Any]) -> None:
    both = {**load_file(folder / WEIGHTS), **changes}
    save_file({k: v for k, v in both.items() if v is not None}, folder / WEIGHTS)


NORM = "model.norm.weight"
FILES: Dict[str, Callable[[Path], Any]] = {
    "no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json holds a list": lambda folder: (folder / "config.json").write_text("[]"),
    "advice out of its range": lambda folder: (folder / "generation_config.json").write_text(
        '{"top_p": 0}'
    ),
    "chat_template.jinja is not UTF-8": lambda folder: (folder / "chat_template.jinja").write_bytes(
        b"\xff"
    ),
    "a chat template that is no text": lambda folder: (folder / "tokenizer_config.json").write_text(
        '{"chat_template": [5]}'
    ),
    "no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "a tensor is missing": lambda folder: change_weights(folder, {NORM: None}),
    "a tensor has another shape": lambda folder: change_weights(folder, {NORM: torch.ones(63)}),
    "a head of another shape than the embedding it is tied to": lambda folder: change_weights(
        folder, {"lm_head.weight": torch.ones(319, 64)}
    ),
    "a bias that config.json denies": lambda folder: change_weights(
        folder, {"model.layers.0.self_attn.o_proj.bias": torch.ones(64)}
    ),
    "a tensor too many": lambda folder: change_weights(folder, {"model.router": torch.ones(1)}),
    "a quantized tensor": lambda folder: change_weights(
        folder, {NORM: torch.ones(64, dtype=torch.int8)}
    ),
    "the index names a shard that is not there": lambda folder: (folder / INDEX).write_text(
        json.dumps({"weight_map": {NORM: "model-00001-of-00002.safetensors"}})
    ),
    "the index names a file elsewhere": lambda folder: (folder / INDEX).write_text(
        json.dumps({"weight_map": {NORM: "../other.safetensors"}})
    ),
}


def told(call: Callable[[], Any]) -> str:
    """The error's class and words. Nothing that is listed here may be accepted."""
    try:
        call()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("accepted")


def told_by_command(argv: List[str]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        status = cli(argv)
    return f"{shown.getvalue().strip()} (exit status {status})"


def sections(folder: Path) -> Iterator[Tuple[str, List[Tuple[str, str]]]]:
    """Title, and (what was given, what was said) of each part of the page."""
    write_model(folder, "qwen3", seed=4)
    write_tokenizer(folder)
    llm = LLM(str(folder), num_kv_blocks=64)

    def spoiled(change: Callable[[Path], Any]) -> str:
        with tempfile.TemporaryDirectory() as other:
            copy = shutil.copytree(folder, Path(other) / "model")
            change(copy)
            return told(lambda: LLM(str(copy), num_kv_blocks=64)).replace(str(copy), "MODEL")

    yield (
        "Sampling parameters",
        [
            (f"`SamplingParams({words(given)})`", told(lambda given=given: SamplingParams(**given)))
            for given in SAMPLING
        ],
    )
    yield (
        "Prompts",
        [
            (f"`llm.generate({short(given)})`", told(lambda given=given: llm.generate(given)))
            for given in PROMPTS
        ],
    )
    yield (
        "Sampling parameters beside a prompt",
        [
            (
                f'llm.generate("hi", {short(given)})',
                told(lambda given=given: llm.generate("hi", given)),
            )
            for given in PARAMS
        ],
    )
    yield (
        "Conversations",
        [
            (
                f"`llm.chat({short(messages)}{', ' if kwargs else ''}{words(kwargs)})`",
                told(lambda m=messages, k=kwargs: llm.chat(m, **k)),
            )
            for messages, kwargs in CHATS
        ],
    )
    base = {"model": str(folder), "num_kv_blocks": 64}
    yield (
        "The engine",
        [
            (f"`LLM({words(given)})`", told(lambda given=given: LLM(**{**base, **given})))
            for given in ENGINE
        ],
    )
    yield (
        "config.json",
        [
            (f"`{words(given)}`", spoiled(lambda copy, given=given: change_config(copy, **given)))
            for given in CONFIG
        ],
    )
    yield "Files of a model", [(what, spoiled(change)) for what, change in FILES.items()]
    yield (
        "Commands",
        [
            (
                f"`vllm {shlex.join(argv)}`",
                told_by_command([str(folder) if word == "MODEL" else word for word in argv]),
            )
            for argv in COMMANDS
        ],
    )


def words(given: Dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def short(value: Any) -> str:
    """Source of a value; long ones as they are written above."""
    if value is OUTSIDE:
        return "SamplingParams(stop_token_ids=[999])"
    if isinstance(value, list) and value and isinstance(value[0], SamplingParams):
        return "[SamplingParams()] * 2"
    if isinstance(value, str) and len(value) >= 90:
        return f"{value[0]!r} * {len(value)}"
    return repr(value) if len(repr(value)) < 90 else "[[1] * 160]"


HEAD = """# Bad inputs and their error messages

Bad inputs raise ValueError or its subclass `ModelError` before anything is computed; commands print
one line and exit with status 2. A test compares this page with the actual messages
(`python -m tests.bad_inputs` writes it). The model of these examples has a vocabulary of 320 tokens
and a context of 160; MODEL stands for its folder."""


def page() -> str:
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for title, cases in sections(Path(folder)):
            lines += ["", f"## {title}", "", "| given | said |", "| --- | --- |"]
            for given, said in cases:
                cells = (given, said.replace(folder, "MODEL"))
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
