"""Chooses the replica of an engine for a request: one that has its prefix cached and has capacity.

Each replica has a prefix cache for its own requests only. So requests with the same prefix should
go to the same replica, unless that one is overloaded: no replica gets more than 1.25 times its
equal share of all sequences ("consistent hashing with bounded loads", Mirrokni, Thorup and
Zadimoghaddam 2016, arXiv:1608.01350).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Iterator, List, Mapping, Optional
from typing import Sequence as SequenceOf

# Tokens of a piece of a prompt. Coarser than a KV block: matching a few more tokens would save
# less than the search costs.
_PIECE = 64
_MOST_PIECES = 64  # 4096 tokens: longer prefixes are not compared
_REMEMBERED = 1 << 16
_EXCESS = 1.25


class Router:
    """Chooses a replica for one request after another. Not thread-safe.

    It remembers where recent prompts were sent, not what the caches hold: replicas would have to
    report that, and the report could be outdated when a request arrives.
    """

    def __init__(self) -> None:
        self._turn = 0  # where the search for the least loaded replica starts: breaks ties
        self._replicas: OrderedDict[bytes, int] = OrderedDict()  # by digest; the latest last

    def choose(self, token_ids: SequenceOf[int], num_seqs: int, loads: Mapping[int, int]) -> int:
        """The replica for a new request.

        token_ids: its prompt. num_seqs: its number of sequences. loads: of each replica that takes
        requests now, by its index, the number of sequences that it has.
        """
        if len(loads) == 1:
            return next(iter(loads))
        digests = list(_digests(token_ids))
        replica = self._known(digests, num_seqs, loads)
        if replica is None:
            # By load; of equal ones those from `_turn` on come first, then the others.
            replica = min(loads, key=lambda each: (loads[each], each < self._turn, each))
            self._turn = replica + 1
        for digest in digests:
            self._replicas[digest] = replica
            self._replicas.move_to_end(digest)
        while len(self._replicas) > _REMEMBERED:
            self._replicas.popitem(last=False)
        return replica

    def forget(self, replica: int) -> None:
        """Forgets the prompts of a replica whose cache is gone."""
        self._replicas = OrderedDict(
            (digest, each) for digest, each in self._replicas.items() if each != replica
        )

    def _known(
        self, digests: List[bytes], num_seqs: int, loads: Mapping[int, int]
    ) -> Optional[int]:
        """The replica with the longest known prefix of the prompt that is below its limit."""
        most = _EXCESS * (sum(loads.values()) + num_seqs) / len(loads)
        for digest in reversed(digests):
            replica = self._replicas.get(digest)
            load = None if replica is None else loads.get(replica)
            if load is not None and (load + num_seqs <= most or not load):
                return replica
        return None


def _digests(token_ids: SequenceOf[int]) -> Iterator[bytes]:
    """A digest of each prefix that consists of whole pieces, the shortest first."""
    digest = hashlib.sha256()
    for end in range(_PIECE, min(len(token_ids), _PIECE * _MOST_PIECES) + 1, _PIECE):
        digest.update(array("q", token_ids[end - _PIECE : end]).tobytes())
        yield digest.digest()[:16]
