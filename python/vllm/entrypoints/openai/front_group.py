"""The processes of a server that handle HTTP (front processes), as one of them sees them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from vllm.engine_process.board import SharedMemory


@dataclass(frozen=True)
class FrontGroup:
    """By default a single process.

    number: of this process, from 1 to `count`; 0 for a single one.
    memory: what all of them count in.
    folder: each one's socket for requests of the others.
    created: when the server was started, in seconds since 1970.
    """

    number: int = 0
    count: int = 1
    memory: SharedMemory = field(default_factory=SharedMemory)
    folder: Optional[Path] = None
    created: int = field(default_factory=lambda: int(time.time()))

    def new_response_id(self) -> str:
        """It begins with the number of this process, which stores the response."""
        return f"resp_{self.number:02x}{secrets.token_hex(23)}"

    def socket_of(self, response_id: str) -> Optional[Path]:
        """The socket of the process that has created a response; None if it was this one, or none
        of them."""
        try:
            number = int(response_id[len("resp_") :][:2], 16)
        except ValueError:
            return None
        if number == self.number or not 1 <= number <= self.count:
            return None
        return self.socket(number)

    def socket(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"front-{number}"

    def share(self, limit: int) -> int:
        """This process's share of a limit."""
        return -(-limit // self.count)
