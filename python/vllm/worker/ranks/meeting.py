"""Where the ranks of a model meet: a store of torch.distributed, where they leave each other notes.

A note is JSON. Nothing that came from another process is ever unpickled.
"""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import timedelta
from typing import Any, Callable, List, Optional

from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02
# For the first answer of a store, and between two notes of a start that nobody is late for.
_CONNECT = timedelta(seconds=60)


class Meeting:
    """The notes of one group of ranks.

    address: where the others reach this rank: on loopback, where all are on this machine.
    local_rank: which of those of its machine this rank is; `rank` itself, if not told.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        size: int,
        *,
        address: str,
        local_rank: Optional[int] = None,
    ) -> None:
        self.store = store
        self.rank = rank
        self.size = size
        self.address = address
        self.local_rank = rank if local_rank is None else local_rank

    @property
    def is_local(self) -> bool:
        """Whether nobody else than processes of this machine need reach this one."""
        return self.address == _LOOPBACK

    def tell(self, topic: str, value: Any) -> None:
        """Leaves this rank's note on a topic, in place of the one before."""
        self.store.set(f"{topic}/{self.rank}", json.dumps(value))

    def heard(self, topic: str, rank: int) -> Optional[Any]:
        """A rank's note on a topic; None if there is none."""
        key = f"{topic}/{rank}"
        return json.loads(self.store.get(key)) if self.store.check([key]) else None

    def exchange(self, topic: str, value: Any, meanwhile: Callable[[], None]) -> List[Any]:
        """Leaves a note, and waits for those of all ranks; returns them by rank.

        meanwhile: called again and again, to raise what makes waiting useless.
        """
        self.tell(topic, value)
        while not self.store.check([f"{topic}/{rank}" for rank in range(self.size)]):
            meanwhile()
            time.sleep(_POLL_SECONDS)
        return [self.heard(topic, rank) for rank in range(self.size)]

    def claim(self, topic: str, value: str) -> str:
        """Says something that only one rank may say; returns what the first one has said."""
        return self.store.compare_set(topic, "", value).decode()

    def claimed(self, topic: str) -> Optional[str]:
        return self.store.get(topic).decode() if self.store.check([topic]) else None

    def part(self, name: str) -> dist.Store:
        """The store, for something else, whose keys begin with a name."""
        return dist.PrefixStore(name, self.store)


def open_meeting(size: int) -> Meeting:
    """The meeting of rank 0 with processes of this machine; its store listens on loopback."""
    listener = socket.create_server((_LOOPBACK, 0))
    port = listener.getsockname()[1]
    store = dist.TCPStore(
        _LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=_CONNECT,
        master_listen_fd=listener.detach(),  # the store's from now on
    )
    return Meeting(store, 0, size, address=_LOOPBACK)


def join_meeting(port: int, rank: int, size: int) -> Meeting:
    """The meeting that `open_meeting` has opened. Raises RuntimeError if it is over."""
    store = dist.TCPStore(
        _LOOPBACK, port, is_master=False, wait_for_workers=False, timeout=_CONNECT
    )
    return Meeting(store, rank, size, address=_LOOPBACK)


def torchrun_meeting(size: int) -> Optional[Meeting]:
    """The meeting that a launcher such as torchrun has arranged; None without one.

    Raises ValueError if it has started another number of processes than `size`.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    started = os.environ["WORLD_SIZE"]
    if started != str(size):
        raise ValueError(
            f"tensor_parallel_size is {size}, but WORLD_SIZE says that {started} processes were "
            f"started: the two must be equal"
        )
    store, rank, _ = next(rendezvous("env://", timeout=_CONNECT))
    # A launcher that starts everything again keeps its store.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Meeting(
        dist.PrefixStore(f"vllm/{attempt}", store),
        rank,
        size,
        address=_address_towards(os.environ["MASTER_ADDR"]),
        local_rank=launched_local_rank(),
    )


def _address_towards(host: str) -> str:
    """This machine's address on the network on which it reaches another, or itself."""
    if host == "localhost":
        return _LOOPBACK
    family, kind, _, _, where = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)  # sends nothing
        address: str = probe.getsockname()[0]
    return address


def launched_local_rank() -> int:
    """Which process of this machine a launcher such as torchrun has started here; 0 without one."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def port_of(meeting: Meeting) -> int:
    """Where others of this machine join a meeting that `open_meeting` has opened."""
    store = meeting.store
    assert isinstance(store, dist.TCPStore)
    return store.port
