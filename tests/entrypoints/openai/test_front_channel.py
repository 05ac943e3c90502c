"""Messages between the main process and its fronts, with the descriptors of connections."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from vllm.entrypoints.openai.front_channel import (
    Channel,
    Connection,
    EngineEnded,
    EngineStarted,
    Failed,
    Finish,
    Serving,
)


@pytest.fixture
def ends():
    pair = Channel.pair()
    channels = [Channel(each) for each in pair]
    yield (*channels, pair)
    for each in channels:
        each.close()


def test_every_message_arrives(ends):
    main, front, _ = ends
    for message in (EngineStarted(1, "/tmp/x"), EngineEnded(1, "why"), Finish()):
        main.send(message)
        assert front.receive() == (message, None)
    for message in (Serving(), Failed("ValueError", "no")):
        front.send(message)
        assert main.receive() == (message, None)


def test_a_connection_comes_with_its_descriptor(ends):
    main, front, _ = ends
    here, there = socket.socketpair()
    with here:
        with there:
            main.send(Connection(), there.fileno())
        message, fd = front.receive()
        assert message == Connection()
        with socket.socket(fileno=fd) as received:
            here.sendall(b"hello")
            assert received.recv(9) == b"hello"


def fill(channel):
    """Sends until there is no room; the number of messages."""
    count = 0
    while True:
        try:
            channel.send(Connection())
        except BlockingIOError:
            return count
        count += 1


def test_a_channel_that_nobody_reads_does_not_block(ends):
    main, front, _ = ends
    with pytest.raises(BlockingIOError):
        front.receive()
    count = fill(main)
    main.close()
    assert [front.receive() for _ in range(count)] == [(Connection(), None)] * count
    with pytest.raises(EOFError):
        front.receive()


def test_nothing_else_is_read_and_no_descriptor_is_left(ends):
    _, front, (raw, _) = ends
    reader, writer = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, writer.to_bytes(4, "little"))]
    raw.sendmsg([b"\x80"], rights)
    os.close(writer)
    with pytest.raises(msgspec.MsgspecError):
        front.receive()
    assert os.read(reader, 1) == b""  # all copies of the other end are closed
    os.close(reader)
