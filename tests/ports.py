"""Ports for programs that cannot choose one themselves."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses.

    It is none of those that the kernel gives to connections (ip_local_port_range): of these, one
    that was free may belong to another test's connection before the program listens there.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
