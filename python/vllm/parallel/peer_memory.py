"""Peer memory: GPU memory that the ranks of one host map by CUDA IPC handles and write to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch

from vllm.ops import comm
from vllm.ops.native import _C

logger = logging.getLogger(__name__)

_TURN_BYTES = 4  # per row, a counter at the start of the memory: csrc/params/comm.h
_HANDLE_WORDS = 8
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# share(topic, value) returns the values of all ranks, by rank; a value must fit in JSON.
Share = Callable[[str, Any], List[Any]]


class PeerMemory:
    """This rank's memory for rows of other ranks, and their memory as mapped in this process.

    rows, row_bytes: the most that one exchange can carry.
    """

    def __init__(self, device: torch.device, rank: int, size: int, rows: int, row_bytes: int):
        self._device: int = device.index
        self._rank = rank
        self._stop = torch.zeros(1, dtype=torch.int32, device="cpu", pin_memory=True)
        self._addresses = torch.zeros(size, dtype=torch.int64, device="cpu")
        nbytes = comm.exchange_bytes(size, rows, row_bytes)
        self._addresses[rank] = _C.allocate_peer_memory(self._device, nbytes, rows * _TURN_BYTES)
        self.group = comm.PeerGroup(self._addresses, rank, rows, row_bytes, self._stop.data_ptr())

    def handle(self) -> List[int]:
        """The IPC handle of this rank's memory, for `open` in other processes."""
        words = torch.zeros(_HANDLE_WORDS, dtype=torch.int64, device="cpu")
        _C.peer_memory_handle(self._device, int(self._addresses[self._rank]), words)
        return [int(word) for word in words]

    def open(self, rank: int, handle: List[int]) -> None:
        """Maps another rank's memory. Raises RuntimeError."""
        words = torch.tensor(handle, dtype=torch.int64, device="cpu")
        self._addresses[rank] = _C.open_peer_memory(self._device, words)

    def stop(self) -> None:
        """Ends the waiting of kernels for other ranks, also in kernels that already run."""
        self._stop.fill_(1)

    def close(self) -> None:
        """Frees and unmaps all memory; call it when no kernel uses it any more."""
        for rank, address in enumerate(self._addresses.tolist()):
            if address and rank == self._rank:
                _C.free_peer_memory(self._device, address)
            elif address:
                _C.close_peer_memory(self._device, address)
        self._addresses.zero_()


def open_peer_memory(
    device: torch.device, rank: int, size: int, rows: int, row_bytes: int, share: Share
) -> Optional[PeerMemory]:
    """Opens peer memory between all ranks; None, in all ranks, if one of them cannot."""
    memory: Optional[PeerMemory] = None
    note: Dict[str, Any] = {"host": _host()}
    if size > comm.MOST_RANKS or not 0 < row_bytes <= comm.MOST_ROW_BYTES or row_bytes % 16:
        note["problem"] = f"{size} ranks with rows of {row_bytes} bytes"
    else:
        try:
            memory = PeerMemory(device, rank, size, rows, row_bytes)
            note["handle"] = memory.handle()
        except RuntimeError as error:
            note["problem"] = str(error)
    notes = share("peer memory", note)
    problem = _problem(notes)
    if problem is None:
        assert memory is not None
        opened: Dict[str, Any] = {}
        try:
            for other, its in enumerate(notes):
                if other != rank:
                    memory.open(other, its["handle"])
        except RuntimeError as error:
            opened["problem"] = str(error)
        problem = _problem(share("peer memory opened", {"host": note["host"], **opened}))
    if problem is None:
        return memory
    if memory is not None:
        memory.close()
    if rank == 0:
        logger.warning("without peer memory, all collectives use NCCL: %s", problem)
    return None


def _problem(notes: List[Dict[str, Any]]) -> Optional[str]:
    if len({note["host"] for note in notes}) > 1:
        return "they are on several hosts"
    problems = [f"rank {r}: {n['problem']}" for r, n in enumerate(notes) if "problem" in n]
    return "; ".join(problems) or None


def _host() -> str:
    """An id of the running operating system: the same for all of its processes."""
    return _BOOT_ID.read_text().strip()
