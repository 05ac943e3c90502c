"""The ``vllm serve`` command, in a separate process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import pytest

from tests.event_lines import lines_of
from tests.waiting import PATIENCE, until_gone
from vllm.entrypoints.cli import main
from vllm.entrypoints.openai.options import ServerOptions

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="there is no torch")
SMALL = ["--num-kv-blocks", "64", "--max-num-seqs", "8"]
READY = re.compile(
    r"(?P<name>.+) \(Qwen3ForCausalLM, 160 tokens\) at (?P<where>\S+), "
    r"ready in [\d.]+ s\n"
)


@contextlib.contextmanager
def serving(*words, code="from vllm.entrypoints.cli import main; import sys; sys.exit(main())"):
    """The process, and how it said that it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # At this size, handing work to threads costs many times the work.
        env={**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_THREADS": "1"},
    )
    try:
        told = []
        for line in process.stderr:
            told.append(line)
            if "ready in" in line:
                ready = READY.fullmatch(line)
                assert ready, line
                break
        else:
            pytest.fail("it ended: " + "".join(told))
        yield process, ready
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def completion(where, **body):
    return httpx.post(f"{where}/completions", json={"prompt": "the cat", **body}, timeout=PATIENCE)


@needs_torch
def test_it_says_what_it_serves_and_where(chat_model):
    with serving(chat_model.folder, "--port", 0, *SMALL) as (_, ready):
        assert ready["name"] == str(chat_model.folder)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", ready["where"])
        body, url = '{"prompt": "the cat", "max_tokens": 2}', f"{ready['where']}/completions"
        answer = subprocess.run(
            ["curl", "-sS", "-H", "Content-Type: application/json", "-d", body, url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(answer.stdout)["usage"]["completion_tokens"] == 2


@needs_torch
def test_the_module_by_vllms_name(chat_model):
    code = "import runpy; runpy.run_module('vllm.entrypoints.openai.api_server', None, '__main__')"
    words = ["--model", chat_model.folder, "--port", 0, *SMALL]
    code = f"import sys; del sys.argv[1]; {code}"  # the word "serve", which is implied
    with serving(*words, code=code) as (_, ready):
        assert completion(ready["where"]).status_code == 200


@needs_torch
def test_options_as_vllm_takes_them(chat_model, tmp_path):
    """With underscores, by short names, and several times."""
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("# no options\n")
    words = ["--config", nothing, "--num_kv_blocks=64", "-tp", 1, "-pp", 1, "-dp", 1]
    words += ["--served_model_name", "cat", "--served-model-name", "dog", "my_cat"]
    words += ["--api-key", "one", "two", "--api_key", "three", "--root-path", "llm/"]
    with serving(chat_model.folder, "--port", 0, *words) as (_, ready):
        assert ready["name"] == "cat, dog, my_cat"
        assert ready["where"].endswith("/llm/v1")
        for key, status in (("one", 200), ("two", 200), ("three", 200), ("four", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(f"{ready['where']}/models", headers=headers).status_code == status


@needs_torch
def test_options_from_a_file(chat_model, tmp_path):
    """What is typed wins, wherever it stands."""
    config = tmp_path / "serve.yaml"
    config.write_text(
        textwrap.dedent(f"""
        model: {chat_model.folder}
        port: 1
        served-model-name: [cat, dog]
        max_model_len: 40
        enable-prefix-caching: false
        api-key: secret
        num-kv-blocks: 64
        """)
    )
    with serving("--port", 0, "--config", config, "--max-model-len", 160) as (_, ready):
        assert ready["name"] == "cat, dog"
        assert completion(ready["where"]).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        models = httpx.get(f"{ready['where']}/models", headers=headers, timeout=PATIENCE).json()[
            "data"
        ]
        assert [(model["id"], model["max_model_len"]) for model in models] == [
            ("cat", 160),
            ("dog", 160),
        ]


def engines_of(server):
    """The processes that compute for a server, the first that it has started first."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if (
                int(fields[1]) == server.pid
                and b"engine_process" in (entry / "cmdline").read_bytes()
            ):
                found.append((int(fields[19]), int(entry.name)))
    return [pid for _, pid in sorted(found)]


@needs_torch
def test_one_of_two_replicas_is_killed(chat_model):
    """Its request gets a 503 that says so; the server and the other replica go on."""
    words = [chat_model.folder, "--port", 0, "--data-parallel-size", 2, *SMALL]
    with serving(*words) as (process, ready), ThreadPoolExecutor(2) as pool:
        victim, other = engines_of(process)
        os.kill(victim, signal.SIGSTOP)  # so that its request is surely unfinished
        where = ready["where"]
        answers = [pool.submit(completion, where, prompt=text) for text in ("the cat", "a dog")]
        done, (lost,) = wait(answers, return_when=FIRST_COMPLETED)
        assert [each.result().status_code for each in done] == [200]
        os.kill(victim, signal.SIGKILL)
        answer = lost.result()
        assert answer.status_code == 503
        assert re.fullmatch(
            rf"replica 1 of 2 has ended while it computed this request \(EngineEnded: its process "
            rf"\({victim}\) was killed by SIGKILL\); others serve: send the request again",
            answer.json()["error"]["message"],
        )
        health = httpx.get(where.replace("/v1", "/health"), timeout=PATIENCE)
        assert health.status_code == 200
        assert [completion(where).status_code for _ in range(4)] == [200] * 4
        assert other in engines_of(process)


@needs_torch
def test_a_unix_socket_is_its_owners(chat_model, tmp_path):
    path = tmp_path / "server.sock"
    with serving(chat_model.folder, "--uds", path, *SMALL) as (process, ready):
        assert ready["where"] == f"unix:{path}/v1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE) as client:
            assert client.get("http://server/v1/models").status_code == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not path.exists()


@needs_torch
def test_sigterm_lets_requests_finish(chat_model):
    body = {"max_tokens": 100, "ignore_eos": True, "stream": True, "n": 4, "logprobs": 0}
    with serving(chat_model.folder, "--port", 0, *SMALL) as (process, ready):
        url = f"{ready['where']}/completions"
        with httpx.stream("POST", url, json={"prompt": "a", **body}, timeout=PATIENCE) as response:
            parts = lines_of(response)
            next(parts)
            process.send_signal(signal.SIGTERM)
            lines = [line for line in parts if line]
        assert lines[-1] == "data: [DONE]"
        reasons = [json.loads(line[6:])["choices"][0]["finish_reason"] for line in lines[:-1]]
        assert reasons.count("length") == 4
        assert process.wait(PATIENCE) == 0
        assert "finishing running requests" in process.stderr.read()


@needs_torch
def test_sigterm_is_heard_where_nobody_reads_what_is_said(chat_model):
    """Whoever started it may have gone, and the other end of its standard error with them."""
    with serving(chat_model.folder, "--port", 0, *SMALL) as (process, _):
        process.stderr.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@needs_torch
@pytest.mark.parametrize(("signals", "options"), [(2, []), (1, ["--shutdown-timeout", 0])])
@pytest.mark.parametrize("fronts", [1, 2])
def test_a_second_signal_or_a_timeout_ends_them(chat_model, signals, options, fronts):
    body = {"prompt": "a", "max_tokens": 150, "ignore_eos": True, "stream": True, "n": 100}
    words = ["--port", 0, "--api-server-count", fronts, *options, *SMALL]
    with serving(chat_model.folder, *words) as (process, ready):
        url = f"{ready['where']}/completions"
        with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
            parts = lines_of(response)
            next(parts)
            process.send_signal(signal.SIGTERM)
            if signals == 2:
                assert any("finishing" in line for line in iter(process.stderr.readline, ""))
                process.send_signal(signal.SIGTERM)
            lines = [line for line in parts if line]
        error = json.loads(lines[-2][len("data: ") :])["error"]
        assert "the server is shutting down" in error["message"]
        assert lines[-1] == "data: [DONE]"
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in process.stderr.read()


def children_of(pid):
    """The processes that it has started, and those that they have."""
    children = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since
            parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


@needs_torch
def test_ranks_serve_as_one_does_and_end_with_the_server(chat_model):
    body = {"max_tokens": 12, "temperature": 0}
    texts = []
    for ranks in (1, 2):
        more = ["--device", "cpu", "--tensor-parallel-size", ranks]
        with serving(chat_model.folder, "--port", 0, *SMALL, *more) as (process, ready):
            texts.append(completion(ready["where"], **body).json()["choices"][0]["text"])
            children = children_of(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    assert texts[0] == texts[1]
    assert children
    until_gone(children)


@needs_torch
def test_a_prompt_goes_to_the_replica_that_has_its_beginning(chat_model):
    more = ["--device", "cpu", "--data-parallel-size", 2]
    with serving(chat_model.folder, "--port", 0, *SMALL, *more) as (process, ready):
        cached = []
        for kind in (1, 2, 2, 1, 1):
            prompt = [kind] * 64 + [len(cached)]
            answer = completion(ready["where"], prompt=prompt, max_tokens=2, temperature=0).json()
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        assert cached == [0, 0, 64, 64, 64]
        children = children_of(process.pid)
        assert len(children) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    until_gone(children)


# The engine dies at its fourth step, by a defect of its own.
DYING = """
import os, sys
from vllm.engine_process.process import EngineProcess
from vllm.entrypoints.cli import main
EngineProcess.module, os.environ["FAULT"] = "tests.engine_process.faulty", "dies"
sys.exit(main())
"""


@needs_torch
def test_a_dead_engine_ends_the_server_with_its_error(chat_model):
    with serving(chat_model.folder, "--port", 0, *SMALL, code=DYING) as (process, ready):
        assert completion(ready["where"], ignore_eos=True).status_code >= 500
        assert process.wait(PATIENCE) == 1
        told = process.stderr.read()
    assert "vllm serve: error: the engine has died: TypeError" in told
    assert "an injected error" in told


@needs_torch
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(chat_model, number):
    """A terminal and a service manager send signals to all processes, the engine's included."""
    body = {"prompt": "a", "max_tokens": 100, "ignore_eos": True, "stream": True, "n": 4}
    with serving(chat_model.folder, "--port", 0, *SMALL) as (process, ready):
        started = children_of(process.pid)
        assert started
        url = f"{ready['where']}/completions"
        with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
            parts = lines_of(response)
            next(parts)
            os.killpg(process.pid, number)
            if number != signal.SIGKILL:
                assert [line for line in parts if line][-1] == "data: [DONE]"
        assert process.wait(PATIENCE) == (-number if number == signal.SIGKILL else 0)
    until_gone(started)


@needs_torch
def test_no_code_of_a_models_is_run(chat_model):
    words = [chat_model.folder, "--port", 0, "--trust-remote-code", *SMALL]
    with serving(*words) as (process, _):
        process.terminate()
        process.wait(PATIENCE)


def refused(capsys, *words):
    """The error line of a command that must end at once."""
    assert main(["serve", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_served_is_said_before_a_model_is_read(capsys, tmp_path):
    one_model = "vllm serve: error: name one model: vllm serve MODEL, or --model MODEL\n"
    assert refused(capsys) == one_model
    assert refused(capsys, "a", "--model", "b") == one_model
    assert "max_num_seqs must be an integer, at least 1" in refused(
        capsys, "gone", "--max-num-seqs", 0
    )
    assert "--chat-template: ./gone cannot be read" in refused(
        capsys, "gone", "--chat-template", "./gone"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", 99999], "port must be an integer, in [0, 65535], got 99999"),
        (["--port", -1], "port must be an integer, in [0, 65535], got -1"),
        (["--max-n", 0], "max_n must be an integer, at least 1, got 0"),
        (["--max-logprobs", -1], "max_logprobs must be an integer, at least 0, got -1"),
        (["--max-request-bytes", 0], "max_request_bytes must be an integer, at least 1, got 0"),
        (["--max-queued-sequences", 0], "max_queued_sequences must be an integer, at least 1"),
        (["--shutdown-timeout", -1], "shutdown_timeout must be an integer, at least 0, got -1"),
        (["--served-model-name", ""], "names must be a list of non-empty texts, got ['']"),
        (
            ["--allowed-origins", '"*"'],
            "allowed_origins must be a list of non-empty texts, got '*'",
        ),
        (["--allowed-methods", "5"], "allowed_methods must be a list of non-empty texts, got 5"),
        (
            ["--api-key", "secret", " "],
            "api_keys (--api-key, VLLM_API_KEY) must be non-empty texts",
        ),
        (["--api-key", "\udcff"], "api_keys must be UTF-8"),
        (["--uds", ""], "uds must be the path of a Unix socket, got ''"),
        (["--ssl-keyfile", "gone"], "ssl_keyfile needs ssl_certfile"),
        (["--ssl-certfile", "gone"], "ssl_certfile: gone cannot be used: [Errno 2] No such file"),
    ],
)
def test_options_that_cannot_be_meant(capsys, words, message):
    told = refused(capsys, "gone", *words)
    assert told.startswith(f"vllm serve: error: {message}")
    assert "secret" not in told


def test_an_api_key_that_is_set_to_nothing(capsys, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "")  # no request could have it
    assert "VLLM_API_KEY) must be non-empty texts" in refused(capsys, "gone")


def test_origins_that_are_no_json(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "gone", "--allowed-origins", "http://a"])
    assert "must be a JSON list, such as '[" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl to make a key with")
def test_certificates_that_cannot_be_used(capsys, tmp_path):
    text, key, certificate, locked = (tmp_path / name for name in ("text", "key", "cert", "locked"))
    text.write_text("no certificate")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=a", "-days", "2"]
    for each, how in ((key, ["-nodes"]), (locked, ["-passout", "pass:word"])):
        files = ["-keyout", str(each), "-out", str(certificate)]
        subprocess.run([*make, *files, *how], check=True, capture_output=True)
    for chosen, message in (
        ([text], f"ssl_certfile: {text} cannot be used: "),
        ([certificate, key], f"ssl_certfile: {certificate} with the key {key} cannot be used: "),
        ([certificate, locked], "ssl_keyfile must be a key without a passphrase"),
    ):
        words = zip(("--ssl-certfile", "--ssl-keyfile"), chosen)
        told = refused(capsys, "gone", *[word for pair in words for word in pair])
        assert told.startswith(f"vllm serve: error: {message}")


@needs_torch
def test_an_address_in_use_is_said_before_a_model_is_read(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = refused(capsys, "./gone", "--port", port)
    assert told.startswith(f"vllm serve: error: cannot listen at 127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-such-option: 1", "has options that do not exist: --no-such-option=1"),
        ("[1]", "must hold options and their values"),
        ("a: [", "cannot be read"),
        ("config: other.yaml", "names another file, which is not read"),
        ("port: [1, 2]", "has a list where an option has one value"),
    ],
)
def test_a_file_that_is_no_configuration(capsys, tmp_path, text, message):
    config = tmp_path / "serve.yaml"
    config.write_text(text)
    with pytest.raises(SystemExit):
        main(["serve", "model", "--config", str(config)])
    assert message in capsys.readouterr().err


def test_the_options_of_the_server_have_its_names(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    for title in ("server:", "access:", "answers:", "model:", "batches and cache:"):
        assert f"\n{title}\n" in told
    others = {
        "names": "served-model-name",
        "api_keys": "api-key",
        "log_requests": "enable-log-requests",
        "access_log": "disable-uvicorn-access-log",
    }
    for name in ServerOptions.__dataclass_fields__:
        assert f"--{others.get(name, name).replace('_', '-')}" in told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--quantization", "awq"], "takes quantization only as None, got 'awq': weights are used"),
        (["--enable-lora"], "takes enable_lora only as False or None, got True: there are no LoRA"),
        (["--middleware", "mine.Middleware"], "plugins are not supported"),
        (["--speculative-config", '{"model": "x"}'], "there is no speculative decoding"),
    ],
)
def test_options_of_vllms_that_ask_for_something_else_are_refused(capsys, words, why):
    told = refused(capsys, "gone", *words)
    assert told.startswith("vllm serve: error: vllm serve takes ")
    assert why in told


def test_options_of_vllms_that_ask_for_nothing_are_accepted(capsys):
    """Then the model is looked for."""
    words = ["--enable-auto-tool-choice", "--no-enable-lora", "--swap-space", "4"]
    words += ["--uvicorn-log-level", "info", "--disable-log-requests"]
    words += ["--num-gpu-blocks-override", "0"]
    told = refused(capsys, "gone", *words)
    assert "num_kv_blocks must be an integer, at least 1, got 0" in told  # by its name here


def test_a_python_without_the_servers_packages_is_told(capsys, monkeypatch):
    for name in ("fastapi", "zmq"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve", "model"]) == 1
    assert capsys.readouterr().err == (
        "vllm serve: error: the server needs fastapi and pyzmq, which this Python does not have: "
        "pip install fastapi pyzmq\n"
    )


def test_a_package_of_the_server_that_lacks_one_of_its_own(capsys, monkeypatch, tmp_path):
    (tmp_path / "prometheus_client.py").write_text("import a_package_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
    assert main(["serve", "model"]) == 1
    assert capsys.readouterr().err == (
        "vllm serve: error: the server needs prometheus-client, which cannot be imported: "
        "No module named 'a_package_that_is_missing'\n"
    )


def test_the_library_imports_none_of_them():
    code = (
        "import sys, vllm, vllm.entrypoints.cli, vllm.entrypoints.serve\n"
        "found = {'fastapi', 'starlette', 'pydantic', 'uvicorn', 'prometheus_client', 'yaml'}\n"
        "found |= {'zmq', 'msgspec'}\n"
        "sys.exit(str(found & set(sys.modules)) if found & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
