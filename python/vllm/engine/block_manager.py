"""Which KV block holds which tokens: reference counts and prefix caching.

A KV block holds the keys and values of `block_size` consecutive tokens of a sequence, for every
layer. Keys and values depend on all tokens before them, so a full block is identified by a hash
chained over every token up to its end; sequences with the same hash share the block. Shared blocks
are never written again, which is why only full blocks are shared.

A block with a reference count of zero keeps its contents and its hash until the space is needed:
that is the prefix cache. Blocks without a hash are evicted first, then the least recently used.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Dict, List, Optional, Tuple

from vllm.engine.sequence import Sequence


def root_hash(cache_salt: str) -> bytes:
    """The hash that a sequence's first block is chained to. Different salts share no blocks."""
    return hashlib.sha256(cache_salt.encode()).digest()


def hash_blocks(parent: bytes, token_ids: List[int], block_size: int) -> List[bytes]:
    """The hashes of consecutive full blocks: each covers the hash before it and its own tokens.

    parent: the hash of the block before the first, or `root_hash`.

    SHA-256, because a collision would answer one user's prompt from another user's cache.
    """
    tokens, size = array("q", token_ids).tobytes(), 8 * block_size
    sha256, hashes = hashlib.sha256, []
    for start in range(0, len(tokens), size):
        parent = sha256(parent + tokens[start : start + size]).digest()
        hashes.append(parent)
    return hashes


class BlockManager:
    """Allocates `num_blocks` KV blocks of `block_size` tokens each to sequences.

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
        self._hashes: List[Optional[bytes]]
        self._block_of_hash: Dict[bytes, int]
        self._free: OrderedDict[int, None]  # blocks without references, next victim first
        self._unpublished: List[Tuple[Sequence, int]]  # with the number of their full blocks
        self.reset()

    @property
    def num_free_blocks(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        """The number of blocks that this many tokens occupy."""
        return -(-num_tokens // self.block_size)

    def allocate(self, seq: Sequence, *, keep_free: int = 0) -> bool:
        """Allocates blocks for all tokens of a sequence that has none; reuses cached prefixes.

        Sets `block_table`, `num_computed_tokens` (the shared tokens; at least one token is always
        left to compute, because sampling needs its logits) and `num_published_blocks`. Returns
        False, with nothing changed, if fewer than `keep_free` blocks would be left.
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
        """Allocates blocks for all tokens of a sequence, pending ones included. Returns False,
        with nothing changed, if too few are free."""
        num_tokens = seq.num_tokens + seq.num_pending
        num_new = self.blocks_for(num_tokens) - len(seq.block_table)
        if num_new > len(self._free):
            return False
        seq.block_table.extend(self._take() for _ in range(num_new))
        return True

    def publish(self, seq: Sequence, num_tokens: int) -> None:
        """Makes the full blocks of the first `num_tokens` tokens available to other sequences;
        tokens that are not sampled yet are left out.

        Called just before the model computes them. A step writes all keys and values of a layer
        before it reads any, so two sequences of the same step may share a block.

        They are hashed by `hash_published`, or before anything needs their hashes.
        """
        num_full = min(num_tokens, len(seq.token_ids)) // self.block_size
        if self.enable_prefix_caching and num_full > seq.num_published_blocks:
            self._unpublished.append((seq, num_full))

    def hash_published(self) -> None:
        """Hashes published blocks. Call it when the device is busy: it takes a microsecond for each
        block."""
        for seq, num_full in self._unpublished:
            self._hash_published(seq, num_full)
        self._unpublished.clear()

    def _hash_published(self, seq: Sequence, num_full: int) -> None:
        if num_full <= seq.num_published_blocks:
            return
        self._hash_up_to(seq, num_full)
        for index in range(seq.num_published_blocks, num_full):
            block_hash = seq.block_hashes[index]
            # Another sequence may have computed the same tokens at the same time: keep its block.
            if block_hash not in self._block_of_hash:
                block = seq.block_table[index]
                self._block_of_hash[block_hash] = block
                self._hashes[block] = block_hash
        seq.num_published_blocks = num_full

    def free(self, seq: Sequence) -> None:
        """Releases the blocks of a sequence; their contents stay cached until overwritten.

        The last blocks are evicted before the first ones, which more sequences can share.
        """
        self.hash_published()
        for block in reversed(seq.block_table):
            if self._ref_counts[block] < 1:
                raise RuntimeError(f"block {block} of {seq!r} was freed twice")
            self._ref_counts[block] -= 1
            if self._ref_counts[block] == 0:
                self._free[block] = None
                if self._hashes[block] is None:
                    self._free.move_to_end(block, last=False)
        del seq.block_table[:]
        seq.num_computed_tokens = 0
        seq.num_published_blocks = 0

    def reset(self) -> None:
        """Frees every block and empties the prefix cache, whatever sequences hold them."""
        self._ref_counts = [0] * self.num_blocks
        self._hashes = [None] * self.num_blocks
        self._block_of_hash = {}
        self._free = OrderedDict.fromkeys(range(self.num_blocks))
        self._unpublished = []

    def _find_shared(self, seq: Sequence) -> List[int]:
        """The cached blocks of the sequence's longest cached prefix."""
        if not self.enable_prefix_caching or seq.prompt_logprobs_wanted:
            return []
        self.hash_published()
        num_shareable = (seq.num_tokens - 1) // self.block_size
        shared: List[int] = []
        while len(shared) < num_shareable:  # do not hash a long prompt that shares nothing
            first, end = len(shared), min(2 * len(shared) + 1, num_shareable)
            self._hash_up_to(seq, end)
            for each in seq.block_hashes[first:end]:
                block = self._block_of_hash.get(each)
                if block is None:
                    return shared
                shared.append(block)
        return shared

    def _hash_up_to(self, seq: Sequence, num_blocks: int) -> None:
        hashes = seq.block_hashes
        if len(hashes) < num_blocks:
            first, end = len(hashes) * self.block_size, num_blocks * self.block_size
            parent = hashes[-1] if hashes else root_hash(seq.cache_salt)
            hashes += hash_blocks(parent, seq.token_ids[first:end], self.block_size)

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        block_hash = self._hashes[block]
        if block_hash is not None:
            del self._block_of_hash[block_hash]
            self._hashes[block] = None
        self._ref_counts[block] = 1
        return block
