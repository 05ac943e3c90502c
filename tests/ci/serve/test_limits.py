"""Limits of what one client can use, with real sockets: memory, descriptors, time, log lines."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from ci.serve import ConnectionLimits, running
from ci.store import Body, FolderStore
from tests.ci.support.sockets import connect, stalled_readers
from tests.waiting import PATIENCE, until

SIZE = 8 << 20
PAGE = "/index.html"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "bucket", durable=False)
    store.create("index.html", Body.of(b"page"))
    store.create("big.whl", Body.of(bytes(SIZE)))
    return store


def until_it_serves(base: str) -> None:
    """Waits for a page: a client may be too slow for a short limit, or too early for a place."""

    def serves() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(base + PAGE, timeout=PATIENCE).text == "page"
        return False

    until(serves, "it serves nobody")


def until_open(pid: int, name: str, count: int) -> None:
    """Waits until a process has the file of that name open so often."""
    until(lambda: files(pid, name) == count, f"{name} is not open {count} times")


def drain(client: socket.socket) -> int:
    """How many bytes there are to read, before the server closes the connection."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(1 << 16):
            count += len(chunk)
    return count


# Descriptors that a process may have, connections that it allows, and the bucket.
SERVER = """
import resource, sys
from pathlib import Path
from ci.serve import ConnectionLimits, listen, base_url, serve
from ci.store import FolderStore
descriptors, connections, bucket = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
listener = listen("127.0.0.1", 0)
print(base_url(listener), flush=True)
limits = ConnectionLimits(connections) if connections else None
serve(FolderStore(Path(bucket)), listener, None, limits=limits)
"""


@contextmanager
def served(
    store: FolderStore, log: Path, descriptors: int = 1024, connections: int = 0
) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address, its process id; what it says is in `log`."""
    arguments = [str(descriptors), str(connections), store.name]
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-c", SERVER, *arguments],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            base = process.stdout.readline().strip()
            assert httpx.get(base + PAGE, timeout=PATIENCE).text == "page"
            yield base, process.pid
        finally:
            process.kill()


def memory(pid: int) -> int:
    """Bytes of its own that a process holds in memory."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def files(pid: int, name: str) -> int:
    """How often a process has the file of that name open."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()).endswith(name)
    return count


def test_a_stalled_reader_costs_little_and_an_aborted_one_nothing(
    store: FolderStore, tmp_path: Path
) -> None:
    with served(store, tmp_path / "log") as (base, pid), ExitStack() as stack:
        used = []
        for readers in (60, 260):  # the first make the server start its threads
            more = readers - files(pid, "big.whl")
            stack.enter_context(stalled_readers(base, "/big.whl", more))
            until_open(pid, "big.whl", readers)
            used.append(memory(pid))
        assert (used[1] - used[0]) / 200 < 200_000  # bytes; it was two million
        until_it_serves(base)
        stack.close()
        until_open(pid, "big.whl", 0)


def test_a_stalled_reader_is_disconnected(store: FolderStore) -> None:
    limits = ConnectionLimits(connections=100, stall=0.2)
    with running(store, limits=limits) as base, stalled_readers(base, "/big.whl", 3) as clients:
        until_open(os.getpid(), "big.whl", 0)
        assert all(drain(client) < SIZE // 2 for client in clients)
        until_it_serves(base)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /i"],
)
def test_a_request_that_does_not_end_is_given_up(store: FolderStore, sent: bytes) -> None:
    with running(store, limits=ConnectionLimits(connections=100, request=0.2)) as base:
        with connect(base) as client:
            client.sendall(sent)
            drain(client)
        until_it_serves(base)


def test_a_reader_that_is_slow_but_reads_gets_everything(store: FolderStore) -> None:
    with (
        running(store, limits=ConnectionLimits(connections=100, stall=2)) as base,
        connect(base, receive_buffer=4096) as client,
    ):
        client.sendall(b"GET /big.whl HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while chunk := client.recv(1 << 12):  # 2048 pieces or more: longer than the limit
            received += len(chunk)
            time.sleep(0.001)
        assert received > SIZE


def test_connections_beyond_the_limit_get_503(store: FolderStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with served(store, log, connections=5) as (base, _), ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connect(base))
        for _ in range(40):
            with connect(base) as client, contextlib.suppress(ConnectionResetError):
                answer = client.recv(1000)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After" in answer
        stack.close()
        until_it_serves(base)
        assert log.read_text().count("refusing others") == 1


def test_a_process_allows_no_more_connections_than_it_has_descriptors_for(
    store: FolderStore, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with served(store, log, descriptors=128) as (base, pid), ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(connect(base, receive_buffer=4096))
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET /big.whl HTTP/1.1\r\nHost: x\r\n\r\n")
        # One connection may still be that of the question whether it is up.
        until(lambda: files(pid, "big.whl") in (15, 16), "not as many as there is room for")
        assert "refusing others" in log.read_text()
        assert "Too many open files" not in log.read_text()
        stack.close()
        until_it_serves(base)


def test_out_of_descriptors_it_says_so_once(store: FolderStore, tmp_path: Path) -> None:
    """Where somebody else has taken them: the limit of connections does not help."""
    log = tmp_path / "log"
    with served(store, log, descriptors=64, connections=9999) as (base, pid), ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(connect(base))
        until(lambda: "Too many open files" in log.read_text(), "it does not say so")
        until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) >= 60, "it has some left")
        stack.close()
        until_it_serves(base)
        assert log.read_text().count("Too many open files") == 1
        assert len(log.read_text().splitlines()) < 30


def test_special_files_are_not_found_and_do_not_block(store: FolderStore) -> None:
    os.mkfifo(store.root / "pipe.whl")
    with socket.socket(socket.AF_UNIX) as listener, running(store) as base, ExitStack() as stack:
        listener.bind(str(store.root / "socket.whl"))
        clients = [stack.enter_context(connect(base)) for _ in range(60)]
        for number, client in enumerate(clients):
            name = ("pipe.whl", "socket.whl")[number % 2]
            client.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 404 ")
        until_it_serves(base)
