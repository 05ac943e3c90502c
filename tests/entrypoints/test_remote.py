"""``vllm chat --url`` and ``vllm complete``: a server's answers equal the library's."""

from __future__ import annotations

import importlib.util
import io
import re
import socket
import struct
import sys
import threading

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


EVENT = b'data: {"choices": [{"text": "Hello", "delta": {"content": "Hello"}}]}\n\n'
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing a connection resets it


@pytest.mark.parametrize("command", ["chat", "complete"])
@pytest.mark.parametrize(
    ("rest", "resets"),
    [(b"", False), (b"", True), (b"50\r\ndata: {", False), (b"0\r\n\r\n", False)],
    ids=["closed", "reset", "within an event", "without an end"],
)
def test_a_server_that_dies_while_it_answers(monkeypatch, capsys, command, rest, resets):
    """Half an answer is not taken for a whole one."""

    def answer(listening):
        for _ in range(2):
            client, _ = listening.accept()
            with client:
                if b"/models" in client.recv(1 << 16):
                    body = b'{"data": [{"id": "tiny"}]}'
                    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)
                    continue
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                client.sendall(head + b"%x\r\n%s\r\n%s" % (len(EVENT), EVENT, rest))
                if resets:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        status = main([command, "--url", url])
        thread.join()
    message = "ended the connection before the end of its answer"
    if resets:  # which may be before the first event has been read
        message = "(cannot be reached|ended the connection .*): .*reset"
    assert status == 2
    assert re.search(f"vllm {command}: error: {url} {message}", capsys.readouterr().err)
