"""Chooses the replica of an engine for a request: one that has its prefix cached and has capacity.

Each replica has a prefix cache for its own requests only. So requests with the same prefix should
go to the same replica, unless that one is overloaded: no replica gets more than 1.25 times its
equal share of all sequences ("consistent hashing with bounded loads", Mirrokni, Thorup and
Zadimoghaddam 2016, arXiv:1608.01350).
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Iterator, List, Mapping, Optional, Union
from typing import Sequence as SequenceOf

# Tokens of a piece of a prompt. Coarser than a KV block: matching a few more tokens would save
# less than the search costs.
_PIECE = 64
_MOST_PIECES = 64  # 4096 tokens: longer prefixes are not compared
_REMEMBERED = 1 << 16
_EXCESS = 1.25

# An entry of the table: a part of a prefix's digest, and a replica.
_REPLICA_BITS, _TAG_BITS = 12, 51


class Router:
    """Chooses a replica for one request after another. Not thread-safe.

    It remembers where recent prompts were sent, not what the caches hold: replicas would have to
    report that, and the report could be outdated when a request arrives.

    table: integers of 64 bits, zeros at first; several processes may share it. The
        entry of a prefix is at the place that its digest chooses, and the latest prefix of a place
        replaces the one before.
    """

    def __init__(self, table: Union[memoryview[int], array[int], None] = None) -> None:
        self._turn = 0  # where the search for the least loaded replica starts: breaks ties
        self._table = array("q", bytes(8 * _REMEMBERED)) if table is None else table

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
            self._table[digest % len(self._table)] = _tag(digest) << _REPLICA_BITS | replica
        return replica

    def forget(self, replica: int) -> None:
        """Forgets the prompts of a replica whose cache is gone."""
        of_replica = (1 << _REPLICA_BITS) - 1
        for place in range(len(self._table)):
            if self._table[place] & of_replica == replica:
                self._table[place] = 0

    def _known(self, digests: List[int], num_seqs: int, loads: Mapping[int, int]) -> Optional[int]:
        """The replica with the longest known prefix of the prompt that is below its limit."""
        most = _EXCESS * (sum(loads.values()) + num_seqs) / len(loads)
        for digest in reversed(digests):
            entry = self._table[digest % len(self._table)]
            if entry >> _REPLICA_BITS != _tag(digest):
                continue
            replica = entry & ((1 << _REPLICA_BITS) - 1)
            load = loads.get(replica)
            if load is not None and (load + num_seqs <= most or not load):
                return replica
        return None


def _digests(token_ids: SequenceOf[int]) -> Iterator[int]:
    """A digest of each prefix that consists of whole pieces, the shortest first."""
    digest = hashlib.sha256()
    for end in range(_PIECE, min(len(token_ids), _PIECE * _MOST_PIECES) + 1, _PIECE):
        digest.update(array("q", token_ids[end - _PIECE : end]).tobytes())
        yield int.from_bytes(digest.digest()[:8], "little")


def _tag(digest: int) -> int:
    return digest >> (64 - _TAG_BITS)
