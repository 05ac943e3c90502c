"""``vllm chat --url`` and ``vllm complete``: a server's answers equal the library's."""

from __future__ import annotations

import importlib.util
import io
import sys

import pytest

from vllm.entrypoints.cli import main

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="the server needs an engine, which needs torch"
)
GREEDY = ["--temperature", "0", "--max-tokens", "8", "--ignore-eos"]


@pytest.fixture(scope="module")
def server(chat_model):
    from tests.entrypoints.openai.support import running

    with running(chat_model.folder, api_keys=["key"], names=["tiny", "other"]) as server:
        yield server


@pytest.fixture(scope="module")
def llm(chat_model):
    from vllm import LLM

    return LLM(str(chat_model.folder), num_kv_blocks=64)


@pytest.fixture
def ask(server, monkeypatch, capsys):
    """ask(command, said, *options) -> exit status, standard output, standard error."""

    def run(command, said, *options):
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        status = main([command, "--url", f"{server.url}/v1", *options])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def params(llm):
    return llm.engine.generation_defaults.params(temperature=0, max_tokens=8, ignore_eos=True)


def test_a_conversation_with_a_server(ask, llm):
    status, out, _ = ask("chat", "the cat\nthe dog\n/reset\nthe cat\n", "--system", "sat", *GREEDY)
    messages = [{"role": "system", "content": "sat"}, {"role": "user", "content": "the cat"}]
    first = llm.chat(messages, params(llm))[0].outputs[0].text
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "the dog"}]
    second = llm.chat(messages, params(llm))[0].outputs[0].text
    assert (status, out) == (0, f"{first}\n{second}\n{first}\n")


def test_texts_continued_by_a_server(ask, llm):
    texts = [output.outputs[0].text for output in llm.generate(["the cat", "a"], params(llm))]
    assert ask("complete", "the cat\n\na\n", *GREEDY)[:2] == (0, f"{texts[0]}\n{texts[1]}\n")
    assert ask("complete", "", "--quick", "a", *GREEDY)[:2] == (0, f"{texts[1]}\n")
    assert ask("complete", "", "-q", "a", "--model-name", "other", *GREEDY)[1] == f"{texts[1]}\n"


@pytest.mark.parametrize("command", ["chat", "complete"])
def test_what_a_server_refuses_is_said(ask, command):
    status, out, err = ask(command, "hi\n", "--model-name", "third")
    assert (status, out) == (2, "")
    assert err == (f"vllm {command}: error: the model 'third' is not served here; tiny, other is\n")
    assert "this server requires an API key" in ask(command, "hi\n", "--api-key", "wrong")[2]


@pytest.mark.parametrize("command", ["chat", "complete"])
def test_a_server_that_is_not_there(command, capsys):
    assert main([command, "--url", "http://127.0.0.1:9/v1"]) == 2
    assert "http://127.0.0.1:9/v1 cannot be reached" in capsys.readouterr().err
    assert main([command, "--url", "127.0.0.1:9"]) == 2
    assert "--url must begin with http:// or https://" in capsys.readouterr().err


def test_a_model_or_a_server(capsys):
    assert main(["chat"]) == 2
    assert "name a model (vllm chat MODEL), or a server (vllm chat --url URL)" in (
        capsys.readouterr().err
    )
    assert main(["chat", "MODEL", "--url", "http://x", "--block-size", "16"]) == 2
    assert (
        "with --url the server has loaded the model: omit MODEL, --block-size"
        in capsys.readouterr().err
    )


def test_an_answer_that_fails_within_its_stream(ask, monkeypatch):
    from tests.entrypoints.openai.support import let_model_write

    let_model_write(monkeypatch, "and so", size=3, error=RuntimeError("the device is gone"))
    status, out, err = ask("complete", "", "-q", "a")
    assert status == 2
    assert out == "and so"
    assert "internal error" in err
