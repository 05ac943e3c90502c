"""Which cache block holds which tokens: reference counts, and sharing of equal prefixes.

A block holds the keys and values of `block_size` consecutive tokens of a sequence, for every
layer. Keys and values depend on all tokens before them, so a full block is named by a hash
chained over every token up to its end; two sequences with the same name share the block. Shared
blocks are never written again, which is why only full ones are shared.

A block that nobody refers to keeps its contents and its name until the space is needed: that is
the prefix cache. Blocks without a name go first, then the least recently used.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Dict, List, Optional

from vllm.engine.sequence import Sequence


def root_of(cache_salt: str) -> bytes:
    """What the first blocks of sequences are chained to: those with another salt share nothing."""
    return hashlib.sha256(cache_salt.encode()).digest() if cache_salt else b""


def hash_blocks(parent: bytes, token_ids: List[int], block_size: int) -> List[bytes]:
    """The names of full blocks one behind the other, each from the name of the one before it and
    its own tokens. There may be hundreds: all tokens become bytes at once.

    SHA-256, so that two different prefixes never meet: a collision would answer one user's
    prompt from another's cache.
    """
    tokens, size = array("q", token_ids).tobytes(), 8 * block_size
    sha256, names = hashlib.sha256, []
    for start in range(0, len(tokens), size):
        parent = sha256(parent + tokens[start : start + size]).digest()
        names.append(parent)
    return names


class BlockManager:
    """Hands out `num_blocks` cache blocks of `block_size` tokens.

    Raises ValueError for sizes that are not positive.
    """

    def __init__(
        self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool = True
    ) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(
                f"a cache needs at least one block of at least one token, "
                f"got {num_blocks} blocks of {block_size}"
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._ref_counts: List[int]
        self._names: List[Optional[bytes]]
        self._named: Dict[bytes, int]
        self._free: OrderedDict[int, None]  # blocks that nobody refers to, the next to take first
        self.reset()

    @property
    def num_free_blocks(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that this many tokens take."""
        return -(-num_tokens // self.block_size)

    def allocate(self, seq: Sequence, *, keep_free: int = 0) -> bool:
        """Gives a sequence without blocks room for all its tokens, sharing what it can.

        Sets `block_table`, `num_computed_tokens` (the shared tokens; at least one token is always
        left to compute, since sampling needs it) and `num_published_blocks`. Returns False, and
        changes nothing, if that would leave fewer than `keep_free` free blocks.
        """
        if seq.block_table:
            raise RuntimeError(f"{seq!r} already has blocks")
        shared = self._find_shared(seq)
        num_new = self.blocks_for(seq.num_tokens) - len(shared)
        num_revived = sum(1 for block in shared if self._ref_counts[block] == 0)
        if num_new + num_revived + keep_free > len(self._free):
            return False
        for block in shared:
            if self._ref_counts[block] == 0:
                del self._free[block]
            self._ref_counts[block] += 1
        seq.block_table.extend(shared)
        seq.block_table.extend(self._take() for _ in range(num_new))
        seq.num_computed_tokens = len(shared) * self.block_size
        seq.num_published_blocks = len(shared)
        return True

    def grow(self, seq: Sequence) -> bool:
        """Makes room for all the tokens of a sequence, pending ones too; False, with nothing
        changed, if full."""
        num_tokens = seq.num_tokens + seq.num_pending
        num_new = self.blocks_for(num_tokens) - len(seq.block_table)
        if num_new > len(self._free):
            return False
        seq.block_table.extend(self._take() for _ in range(num_new))
        return True

    def publish(self, seq: Sequence, num_tokens: int) -> None:
        """Lets others share the full blocks among the first `num_tokens` tokens of a sequence, as
        far as these are known.

        Called when the model is about to compute them: in every layer all keys and values of a
        step are written before any are read, so sequences may share within a step.
        """
        if not self.enable_prefix_caching:
            return
        num_full = min(num_tokens, len(seq.token_ids)) // self.block_size
        if num_full <= seq.num_published_blocks:
            return
        self._hash_up_to(seq, num_full)
        for index in range(seq.num_published_blocks, num_full):
            name = seq.block_hashes[index]
            # Another block may hold the same tokens, computed at the same time: that one stays.
            if name not in self._named:
                block = seq.block_table[index]
                self._named[name] = block
                self._names[block] = name
        seq.num_published_blocks = num_full

    def free(self, seq: Sequence) -> None:
        """Gives back the blocks of a sequence; what they hold stays shareable until overwritten.

        The end of the sequence will be overwritten before its start, which more others share.
        """
        for block in reversed(seq.block_table):
            if self._ref_counts[block] < 1:
                raise RuntimeError(f"block {block} of {seq!r} was given back twice")
            self._ref_counts[block] -= 1
            if self._ref_counts[block] == 0:
                self._free[block] = None
                if self._names[block] is None:
                    self._free.move_to_end(block, last=False)
        del seq.block_table[:]
        seq.num_computed_tokens = 0
        seq.num_published_blocks = 0

    def reset(self) -> None:
        """Gives back every block, whoever has it, and forgets what they hold."""
        self._ref_counts = [0] * self.num_blocks
        self._names = [None] * self.num_blocks
        self._named = {}
        self._free = OrderedDict.fromkeys(range(self.num_blocks))

    def _find_shared(self, seq: Sequence) -> List[int]:
        """The longest run of leading blocks that are named and hold this sequence's tokens."""
        if not self.enable_prefix_caching or seq.prompt_logprobs_wanted:
            return []
        num_shareable = (seq.num_tokens - 1) // self.block_size
        self._hash_up_to(seq, num_shareable)
        shared, named = [], self._named
        for name in seq.block_hashes[:num_shareable]:
            block = named.get(name)
            if block is None:
                break
            shared.append(block)
        return shared

    def _hash_up_to(self, seq: Sequence, num_blocks: int) -> None:
        hashes = seq.block_hashes
        if len(hashes) < num_blocks:
            first, end = len(hashes) * self.block_size, num_blocks * self.block_size
            parent = hashes[-1] if hashes else root_of(seq.cache_salt)
            hashes += hash_blocks(parent, seq.token_ids[first:end], self.block_size)

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        name = self._names[block]
        if name is not None:
            del self._named[name]
            self._names[block] = None
        self._ref_counts[block] = 1
        return block
