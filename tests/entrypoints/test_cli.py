"""The ``vllm`` command, as a person types it."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import re
import subprocess
import sys

import pytest

import vllm
from vllm.engine_args import EngineArgs
from vllm.entrypoints.cli import COMMANDS, main
from vllm.entrypoints.options import add_engine_options

SMALL = ["--num-kv-blocks", "64"]


@pytest.fixture
def folder(chat_model):
    return str(chat_model.folder)


@pytest.fixture
def typed(monkeypatch):
    """typed(text): what the standard input will be."""

    def type_in(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_in


def expected_text(folder, prompt, **params):
    llm = vllm.LLM(folder, num_kv_blocks=64)
    output = llm.generate(prompt, vllm.SamplingParams(temperature=0, **params))[0]
    return output.outputs[0].text


def test_generate_streams_one_prompt(folder, capsys):
    options = ["--prompt", "the cat", "--max-tokens", "12", "--temperature", "0", "--ignore-eos"]
    assert main(["generate", folder, *SMALL, *options]) == 0
    shown = capsys.readouterr()
    assert shown.out == expected_text(folder, "the cat", max_tokens=12, ignore_eos=True) + "\n"
    told = r"\[\d+ prompt tokens, 12 generated in [\d.]+ s: [\d.]+ tokens/s; ended by length\]\n"
    assert re.fullmatch(told, shown.err)


def test_generate_reads_lines_and_prints_json(folder, capsys, typed):
    typed("the cat\n\nthe dog\x0csat\n")  # a form feed does not end a line
    options = ["--json", "--max-tokens", "5", "--temperature", "0", "--ignore-eos"]
    assert main(["generate", folder, *SMALL, *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert [line["prompt"] for line in lines] == ["the cat", "the dog\x0csat"]
    for line in lines:
        assert line["text"] == expected_text(folder, line["prompt"], max_tokens=5, ignore_eos=True)
        assert line["generated_tokens"] == 5
        assert line["finish_reason"] == "length"


def test_generate_prints_several_prompts_in_order(folder, capsys):
    prompts = ["--prompt", "the dog", "--prompt", "the cat"]
    assert main(["generate", folder, *SMALL, *prompts, "--max-tokens", "1"]) == 0
    shown = capsys.readouterr().out
    assert 0 == shown.index("the dog") < shown.index("the cat")


def test_chat_remembers_and_resets(folder, capsys, typed):
    typed("the cat\nthe dog\n\n/reset\nthe cat\n")
    options = ["--system", "sat", "--max-tokens", "8", "--temperature", "0", "--ignore-eos"]
    assert main(["chat", folder, *SMALL, *options]) == 0
    answers = capsys.readouterr().out
    llm = vllm.LLM(folder, num_kv_blocks=64)
    params = vllm.SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    messages = [{"role": "system", "content": "sat"}, {"role": "user", "content": "the cat"}]
    first = llm.chat(messages, params)[0].outputs[0].text
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "the dog"}]
    second = llm.chat(messages, params)[0].outputs[0].text
    assert answers == f"{first}\n{second}\n{first}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate", "/no/such", "--prompt", "x"], "'/no/such' is neither a folder nor a hub id"),
        (
            ["generate", "MODEL", "--prompt", "x", "--top-p", "2"],
            "top_p must be a number in (0,",
        ),
        (["generate", "MODEL", "--prompt", "x", "--block-size", "0"], "block_size must be an int"),
        (["generate", "MODEL"], "no prompt: give --prompt, or lines on standard input"),
        (["generate", "MODEL", "--prompt", ""], "prompt 0: the prompt is empty"),
        (["chat", "MODEL", "--min-tokens", "-1"], "min_tokens must be an integer, at least 0"),
        (["generate", "MODEL", "--prompt", "\udcff"], "the text is not Unicode: character 0"),
    ],
)
def test_refusals_are_one_line_and_status_2(folder, capsys, typed, argv, message):
    typed("")
    assert main([folder if word == "MODEL" else word for word in argv]) == 2
    shown = capsys.readouterr()
    assert re.match(r"vllm [a-z ]+: error: ", shown.err)
    assert message in shown.err
    assert shown.out == ""


def test_a_reader_that_leaves_is_no_error(folder):
    command = [sys.executable, "-m", "vllm", "generate", folder, *SMALL, "--prompt", "the cat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 128 + 13
    assert told == b""


def test_a_conversation_that_has_become_too_long_can_be_begun_again(folder, capsys, monkeypatch):
    said = iter(["x" * 500, "/reset", "the cat"])

    def type_in(prompt):
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", type_in)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert main(["chat", folder, *SMALL, "--max-tokens", "3", "--temperature", "0"]) == 0
    shown = capsys.readouterr()
    assert "the prompt is too long" in shown.err
    assert "/reset begins again" in shown.err
    llm = vllm.LLM(folder, num_kv_blocks=64)
    params = vllm.SamplingParams(temperature=0, max_tokens=3)
    answer = llm.chat([{"role": "user", "content": "the cat"}], params)[0].outputs[0].text
    assert shown.out.splitlines()[1:-1] == answer.splitlines()


def test_as_a_module_and_without_a_command():
    shown = subprocess.run(
        [sys.executable, "-m", "vllm"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert "the following arguments are required: command" in shown.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "vllm", "collect-env"], capture_output=True, text=True, check=True
    )
    assert "torch" in shown.stdout


def arguments(parser):
    """All arguments of a parser and its subparsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from arguments(each)
        else:
            yield action


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_a_help_text(name):
    parser = argparse.ArgumentParser()
    COMMANDS[name].configure(parser)
    assert [action.dest for action in arguments(parser) if not action.help] == []


def test_help_texts_name_the_defaults_of_the_engine():
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    helps = {action.dest: action.help for action in arguments(parser)}
    for field in dataclasses.fields(EngineArgs):
        is_number = type(field.default) in (int, float)
        if is_number or field.name in ("dtype", "device", "distributed_executor_backend"):
            shown = f"({field.default})" if is_number else str(field.default)
            assert shown in helps[field.name]
