"""Each example in Python, as a person runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="there is no torch")


def run(name, *words):
    """The output of an example, which must succeed without warnings."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@needs_torch
def test_offline(chat_model):
    lines = run("offline.py", chat_model.folder)
    assert re.findall(r"^'(.+?)' -> ['\"].+['\"]$", lines, re.M) == [
        "The capital of France is",
        "A paged cache",
        "To be or",
    ]


@needs_torch
def test_chat(chat_model):
    from vllm import LLM, SamplingParams

    shown = run("chat.py", chat_model.folder)
    llm = LLM(str(chat_model.folder), num_kv_blocks=64)
    params = SamplingParams(temperature=0, max_tokens=32)
    (answer,) = llm.chat([{"role": "user", "content": "Who are you?"}], params)
    assert shown.startswith(f"Who are you?\n  {answer.outputs[0].text}\n")


@needs_torch
def test_streaming(chat_model):
    from vllm import LLM, SamplingParams

    text, _, figures = run("streaming.py", chat_model.folder).strip("\n").rpartition("\n")
    llm = LLM(str(chat_model.folder), num_kv_blocks=64)
    params = SamplingParams(temperature=0, max_tokens=48)
    (output,) = llm.generate("Continuous batching", params)
    assert text == output.outputs[0].text
    assert figures.startswith(f"{len(output.outputs[0].token_ids)} tokens in ")


@needs_torch
def test_async_engine(chat_model):
    shown = run("async_engine.py", chat_model.folder)
    assert re.findall(r"^'(The \w+)' -> ", shown, re.M) == ["The cat", "The dog", "The mat"]
    assert re.search(r"^left after \d+ tokens$", shown, re.M)


@needs_torch
def test_structured_output(chat_model):
    pytest.importorskip("llguidance")
    record, date, choice = run("structured_output.py", chat_model.folder).splitlines()
    assert re.fullmatch(r"\{'name': '(Ada|Alan)', 'born': (1815|1912)\}", record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    assert choice in ("yes", "no")


@needs_torch
def test_tools(chat_model, monkeypatch):
    """The model is made to call, then to answer: a random one would do neither."""
    from tests.entrypoints.openai.support import let_model_write, running

    call = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
    let_model_write(monkeypatch, call, then=["Yes, take one."])
    with running(chat_model.folder, tool_call_parser="hermes") as server:
        shown = run("tools.py", f"{server.url}/v1")
    assert shown == 'weather({"city": "Paris"}) = 18 degrees, rain\nYes, take one.\n'


def test_own_kernel_call():
    pytest.importorskip("numpy")
    shown = run("own_kernel_call.py")
    errors = re.findall(r"^(\w+): at most (\S+) from NumPy's own$", shown, re.M)
    assert [name for name, _ in errors] == ["rms_norm", "silu_and_mul"]
    assert all(float(error) < 1e-5 for _, error in errors)


def test_every_example_is_listed_and_tested():
    listed = re.findall(r"^\| \[([\w.]+)\]", (EXAMPLES / "README.md").read_text(), re.M)
    there = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert sorted(listed) == sorted(there)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in listed if f'"{name}"' not in tests] == []
