"""Starting and stopping: a free port, a taken one, and the command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ci.serve import ServeError, listen, running
from ci.store import Body, FolderStore
from tests.waiting import PATIENCE


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "bucket", durable=False)
    store.create("nightly/index.html", Body.of(b"page"))
    return store


def test_two_servers_run_beside_each_other_and_end_with_their_blocks(store: FolderStore) -> None:
    with running(store) as one, running(store) as other:
        assert one != other
        assert one.startswith("http://127.0.0.1:")
        for base in (one, other):
            assert httpx.get(f"{base}/nightly/").text == "page"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{one}/nightly/")


def test_a_port_in_use_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port} of 127.0.0.1 is in use") as caught:
            listen("127.0.0.1", port)
    assert "--port 0" in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 99999)])
def test_an_address_that_this_machine_has_not_says_so(host: str, port: int) -> None:
    with pytest.raises(ServeError, match="cannot listen on port"):
        listen(host, port)


def test_the_command_prints_where_it_serves_and_stops_when_asked(store: FolderStore) -> None:
    command = [sys.executable, "-m", "ci", "serve", "--bucket", store.name, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            base = process.stdout.readline().strip()
            assert httpx.get(f"{base}/nightly/", timeout=PATIENCE).text == "page"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) in (0, 130)
        finally:
            process.kill()
