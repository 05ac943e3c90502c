"""Sends steps from rank 0 to the other ranks, one broadcast each."""

from __future__ import annotations

import struct

import torch

from vllm.parallel.torch_group import TorchGroup

_LENGTH = struct.Struct("=q")
# Messages up to this size need one broadcast, longer ones a second. A broadcast of this size takes
# no longer than one of a few bytes: waking the other processes dominates.
_FIRST_BYTES = 1 << 16


class StepChannel:
    """Sends messages from rank 0 to all others. group: of CPU tensors, used only for this."""

    def __init__(self, group: TorchGroup) -> None:
        self._group = group
        self._bytes = memoryview(bytearray(_FIRST_BYTES))
        self._first = torch.frombuffer(self._bytes, dtype=torch.uint8)  # the same memory

    def send(self, message: bytes) -> None:
        """Call it in rank 0. Raises LostPeerError."""
        start, room = _LENGTH.size, _FIRST_BYTES - _LENGTH.size
        _LENGTH.pack_into(self._bytes, 0, len(message))
        self._bytes[start : start + min(len(message), room)] = message[:room]
        self._group.broadcast(self._first)
        if len(message) > room:
            self._group.broadcast(torch.frombuffer(bytearray(message[room:]), dtype=torch.uint8))

    def receive(self) -> memoryview:
        """Call it in the other ranks; waits without a limit. Raises LostPeerError.

        The result is valid until the next call.
        """
        self._group.broadcast(self._first)
        (length,) = _LENGTH.unpack_from(self._bytes)
        first = self._bytes[_LENGTH.size : _LENGTH.size + length]
        if len(first) == length:
            return first
        rest = bytearray(length - len(first))
        self._group.broadcast(torch.frombuffer(rest, dtype=torch.uint8))
        return memoryview(first.tobytes() + rest)
