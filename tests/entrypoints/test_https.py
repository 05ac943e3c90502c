"""HTTPS, by one process and by several: real clients, and some that speak no TLS."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess

import httpx
import pytest

from tests.entrypoints.test_serve import SMALL, needs_torch, serving
from tests.event_lines import lines_of
from tests.waiting import PATIENCE

pytestmark = [
    needs_torch,
    pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl to make a key"),
]
PROMPT = {"prompt": "the cat", "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run([*words, *files], check=True, capture_output=True)
    return key, made


@pytest.mark.parametrize("count", [1, 3])
def test_requests_and_streams(chat_model, certificate, count):
    key, made = certificate
    words = ["--ssl-keyfile", key, "--ssl-certfile", made, "--api-server-count", count]
    trusted = ssl.create_default_context(cafile=str(made))
    with serving(chat_model.folder, "--port", 0, *words, *SMALL) as (process, ready):
        address = ready["where"].removesuffix("/v1")
        assert address.startswith("https://127.0.0.1:")
        port = int(address.rpartition(":")[2])
        # Neither delays the others: one says nothing, the other speaks HTTP, and is sent away.
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE)
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{address}/health", timeout=PATIENCE)
        texts = set()
        for _ in range(2 * count):  # a connection each, so that every front has some
            with httpx.Client(base_url=address, verify=trusted, timeout=PATIENCE) as client:
                texts.add(client.post("/v1/completions", json=PROMPT).json()["choices"][0]["text"])
                asked = {**PROMPT, "stream": True}
                with client.stream("POST", "/v1/completions", json=asked) as answer:
                    assert [line for line in lines_of(answer) if line][-1] == "data: [DONE]"
        assert len(texts) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
