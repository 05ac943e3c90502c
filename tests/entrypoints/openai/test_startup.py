"""Where a server listens."""

from __future__ import annotations

import socket

import pytest

from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.startup import listen


def listen_at(path):
    return listen(ServerOptions(["a"], uds=str(path)))


def test_the_socket_of_a_server_that_was_killed(tmp_path):
    path = tmp_path / "with space.sock"
    listen_at(path).close()
    assert path.is_socket()  # nobody has deleted it
    with listen_at(path) as listening:
        listening.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


NAMES = ["server.sock", "new\nline", "form\x0cfeed", "return\r", "line\u2028", "not UTF-8 \udcff"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("listens", [True, False], ids=["serves", "loads its model"])
def test_the_socket_of_a_server_that_lives(tmp_path, listens, name):
    path = tmp_path / name
    with listen_at(path) as living:
        if listens:
            living.listen()
        with pytest.raises(ValueError, match=r"(?s)cannot listen at .*: .*in use"):
            listen_at(path)
        assert path.is_socket()


def test_a_file_that_is_no_socket(tmp_path):
    path = tmp_path / "file"
    path.write_text("of somebody")
    with pytest.raises(ValueError, match=r"cannot listen at .*file: .*in use"):
        listen_at(path)
    assert path.read_text() == "of somebody"
