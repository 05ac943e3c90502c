"""Which replica of an engine gets a request: the one that has its prefix, unless it has too much.

A replica shares the cache of equal beginnings among its own requests alone. So requests that begin
alike should meet in one, as long as that leaves no other idle: a replica takes no more than a
quarter above its share of the tokens that all have to do ("consistent hashing with bounded loads",
Mirrokni, Thorup and Zadimoghaddam 2016, arXiv:1608.01350, whose bound this is).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Dict, Iterator, List, Optional, Tuple
from typing import Sequence as SequenceOf

# Tokens of a piece of a prompt. Coarser than blocks of the cache: what is saved by finding a few
# tokens more is less than what looking for them costs.
_PIECE = 64
_MOST_PIECES = 64  # of a prompt, so 4096 tokens: two that are alike so far go to one replica
_REMEMBERED = 1 << 16
_EXCESS = 1.25


class Router:
    """Chooses for one request after another. Not thread-safe.

    num_replicas: of the engine.

    Remembers which replica got the pieces of the latest prompts, not what is in its cache: that
    would have to be told here, and may be gone by the time that the request comes.
    """

    def __init__(self, num_replicas: int) -> None:
        if num_replicas < 1:
            raise ValueError(f"num_replicas must be at least 1, got {num_replicas}")
        self.loads = [0] * num_replicas  # tokens of requests that have not ended
        self._replicas: OrderedDict[bytes, int] = OrderedDict()  # by digest; the latest last
        self._requests: Dict[str, Tuple[int, int]] = {}  # replica and tokens

    def choose(self, request_id: str, token_ids: SequenceOf[int], num_new: int) -> int:
        """The replica of a request that begins now.

        token_ids: of its prompt. num_new: tokens that it may become longer by.
        """
        tokens = len(token_ids) + num_new
        digests = list(_digests(token_ids))
        replica = self._known(digests, tokens)
        if replica is None:
            replica = self.loads.index(min(self.loads))
        for digest in digests:
            self._replicas[digest] = replica
            self._replicas.move_to_end(digest)
        while len(self._replicas) > _REMEMBERED:
            self._replicas.popitem(last=False)
        self.loads[replica] += tokens
        self._requests[request_id] = (replica, tokens)
        return replica

    def end(self, request_id: str) -> None:
        """The request has ended, however."""
        replica, tokens = self._requests.pop(request_id)
        self.loads[replica] -= tokens

    def _known(self, digests: List[bytes], tokens: int) -> Optional[int]:
        """The replica that has had most of the prompt, of those that may take more."""
        most = _EXCESS * (sum(self.loads) + tokens) / len(self.loads)
        for digest in reversed(digests):
            replica = self._replicas.get(digest)
            if replica is not None and (
                self.loads[replica] + tokens <= most or not self.loads[replica]
            ):
                return replica
        return None


def _digests(token_ids: SequenceOf[int]) -> Iterator[bytes]:
    """A name for each beginning of the prompt that is whole pieces, the shortest first."""
    digest = hashlib.sha256()
    for end in range(_PIECE, min(len(token_ids), _PIECE * _MOST_PIECES) + 1, _PIECE):
        digest.update(array("q", token_ids[end - _PIECE : end]).tobytes())
        yield digest.digest()[:16]
