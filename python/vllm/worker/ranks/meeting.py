"""Where the ranks of a model meet: a key-value store of torch.distributed.

Values are JSON. Nothing from another process is unpickled.
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
# Timeout of a store's first answer, and of reading a value.
_CONNECT = timedelta(seconds=60)


class Meeting:
    """The shared values of one group of ranks.

    address: the address at which the others reach this rank; loopback if all are on this machine.
    local_rank: the index of this rank among those of its machine; `rank` by default.
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
        """Whether all ranks are on this machine."""
        return self.address == _LOOPBACK

    def tell(self, topic: str, value: Any) -> None:
        """Sets this rank's value of a topic."""
        self.store.set(f"{topic}/{self.rank}", json.dumps(value))

    def heard(self, topic: str, rank: int) -> Optional[Any]:
        """A rank's value of a topic; None if it has set none."""
        key = f"{topic}/{rank}"
        return json.loads(self.store.get(key)) if self.store.check([key]) else None

    def exchange(self, topic: str, value: Any, meanwhile: Callable[[], None]) -> List[Any]:
        """Sets this rank's value, and waits for those of all ranks; returns them by rank.

        meanwhile: called while it waits; raises if waiting is useless.
        """
        self.tell(topic, value)
        while not self.store.check([f"{topic}/{rank}" for rank in range(self.size)]):
            meanwhile()
            time.sleep(_POLL_SECONDS)
        return [self.heard(topic, rank) for rank in range(self.size)]

    def claim(self, topic: str, value: str) -> str:
        """Sets a topic that only the first caller of all ranks sets; returns its value."""
        return self.store.compare_set(topic, "", value).decode()

    def claimed(self, topic: str) -> Optional[str]:
        return self.store.get(topic).decode() if self.store.check([topic]) else None

    def part(self, name: str) -> dist.Store:
        """The store with a prefix before its keys, for another purpose."""
        return dist.PrefixStore(name, self.store)


def open_meeting(size: int, address: str = _LOOPBACK) -> Meeting:
    """The meeting of rank 0 with processes that it starts.

    address: of this machine; its store listens there and nowhere else.
    """
    listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    store = dist.TCPStore(
        address,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=_CONNECT,
        master_listen_fd=listener.detach(),  # the store closes it
    )
    return Meeting(store, 0, size, address=address)


def join_meeting(
    port: int,
    rank: int,
    size: int,
    address: str = _LOOPBACK,
    local_rank: Optional[int] = None,
) -> Meeting:
    """Joins the meeting of `open_meeting`. Raises RuntimeError if its store is gone."""
    store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=_CONNECT)
    return Meeting(store, rank, size, address=_address_towards(address), local_rank=local_rank)


def is_launched() -> bool:
    """Whether a launcher such as torchrun has started this process."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def torchrun_meeting(size: int) -> Optional[Meeting]:
    """The meeting in the store of a launcher such as torchrun; None without a launcher.

    Raises ValueError if the launcher has not started `size` processes.
    """
    if not is_launched():
        return None
    started = os.environ["WORLD_SIZE"]
    if started != str(size):
        raise ValueError(
            f"tensor_parallel_size is {size}, but WORLD_SIZE is {started}: the launcher must start "
            f"as many processes as there are ranks"
        )
    store, rank, _ = next(rendezvous("env://", timeout=_CONNECT))
    # torchrun keeps its store when it restarts all processes: keys must differ by attempt.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Meeting(
        dist.PrefixStore(f"vllm/{attempt}", store),
        rank,
        size,
        address=_address_towards(os.environ["MASTER_ADDR"]),
        local_rank=launched_local_rank(),
    )


def _address_towards(host: str) -> str:
    """The address of this machine's interface towards a host."""
    if host == "localhost":
        return _LOOPBACK
    family, kind, _, _, where = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)  # sends nothing
        address: str = probe.getsockname()[0]
    return address


def launched_local_rank() -> int:
    """The local rank that a launcher such as torchrun has given this process; 0 without one."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def port_of(meeting: Meeting) -> int:
    """The port of a meeting of `open_meeting`, for `join_meeting`."""
    store = meeting.store
    assert isinstance(store, dist.TCPStore)
    return store.port
