"""Which replica of an engine gets a request: the one that has its prefix, unless it has too much.

A replica shares the cache of equal beginnings among its own requests alone. So requests that begin
alike should meet in one, as long as that leaves no other idle: a replica takes no more than a
quarter above its share of the sequences that there are ("consistent hashing with bounded loads",
Mirrokni, Thorup and Zadimoghaddam 2016, arXiv:1608.01350, whose bound this is).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Iterator, List, Optional
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
        self._num_replicas = num_replicas
        self._turn = 0  # who is the next, of those with as little to do
        self._replicas: OrderedDict[bytes, int] = OrderedDict()  # by digest; the latest last

    def choose(self, token_ids: SequenceOf[int], num_seqs: int, loads: SequenceOf[int]) -> int:
        """The replica of a request that begins now.

        token_ids: of its prompt. num_seqs: its sequences. loads: those that each replica has.
        """
        if self._num_replicas == 1:
            return 0
        digests = list(_digests(token_ids))
        replica = self._known(digests, num_seqs, loads)
        if replica is None:
            turns = [(index - self._turn) % len(loads) for index in range(len(loads))]
            replica = min(range(len(loads)), key=lambda index: (loads[index], turns[index]))
            self._turn = replica + 1
        for digest in digests:
            self._replicas[digest] = replica
            self._replicas.move_to_end(digest)
        while len(self._replicas) > _REMEMBERED:
            self._replicas.popitem(last=False)
        return replica

    def _known(self, digests: List[bytes], num_seqs: int, loads: SequenceOf[int]) -> Optional[int]:
        """The replica that has had most of the prompt, of those that may take more."""
        most = _EXCESS * (sum(loads) + num_seqs) / len(loads)
        for digest in reversed(digests):
            replica = self._replicas.get(digest)
            if replica is not None and (loads[replica] + num_seqs <= most or not loads[replica]):
                return replica
        return None


def _digests(token_ids: SequenceOf[int]) -> Iterator[bytes]:
    """A name for each beginning of the prompt that is whole pieces, the shortest first."""
    digest = hashlib.sha256()
    for end in range(_PIECE, min(len(token_ids), _PIECE * _MOST_PIECES) + 1, _PIECE):
        digest.update(array("q", token_ids[end - _PIECE : end]).tobytes())
        yield digest.digest()[:16]
