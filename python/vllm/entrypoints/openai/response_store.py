"""Stores responses for later requests, with limits on their number, size and age."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

from vllm.entrypoints.openai.protocol.responses import ResponseAnswer


@dataclass(frozen=True)
class StoredResponse:
    """A response that has ended.

    owner: the hash of the API key that created it; other keys do not find it.
    messages: the conversation up to its end, without instructions.
    """

    owner: bytes
    answer: ResponseAnswer
    messages: Tuple[Dict[str, Any], ...]

    @property
    def num_bytes(self) -> int:
        """Its approximate size: the length of its JSON."""
        return len(self.answer.json_text()) + len(json.dumps(self.messages))


class ResponseStore:
    """Deletes the oldest responses to make room for new ones.

    max_age: seconds of `clock` since a response ended, after which it is deleted.
    """

    def __init__(
        self,
        max_count: int,
        max_bytes: int,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_bytes = 0
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        # By id, in the order in which they ended: response, bytes, time of its end.
        self._kept: OrderedDict[str, Tuple[StoredResponse, int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, response: StoredResponse) -> None:
        """Stores a response, unless it alone exceeds `max_bytes`."""
        size = response.num_bytes
        if size > self._max_bytes or self._max_count < 1:
            return
        self._kept[response.answer.id] = (response, size, self._clock())
        self.num_bytes += size
        while len(self._kept) > self._max_count or self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        self._drop_aged()

    def get(self, id: str, owner: bytes) -> Optional[StoredResponse]:
        self._drop_aged()
        found = self._kept.get(id)
        return found[0] if found and found[0].owner == owner else None

    def delete(self, id: str, owner: bytes) -> bool:
        """Returns whether it was stored."""
        if self.get(id, owner) is None:
            return False
        self._drop(id)
        return True

    def _drop(self, id: str) -> None:
        _, size, _ = self._kept.pop(id)
        self.num_bytes -= size

    def _drop_aged(self) -> None:
        oldest = self._clock() - self._max_age
        while self._kept:
            id = next(iter(self._kept))
            if self._kept[id][2] >= oldest:
                return
            self._drop(id)
