"""How the dimensions of a model are divided among ranks (Shoeybi et al. 2019, arXiv:1909.08053).

Heads, the width of the MLP and the vocabulary are divided into contiguous parts. If there are fewer
key and value heads than ranks, several ranks hold copies of the same head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from vllm.config import ModelConfig, ModelError
from vllm.parallel.group import Group


@dataclass(frozen=True)
class Shard:
    """A rank's part of a dimension: elements [start, stop) of `whole`."""

    start: int
    stop: int
    whole: int

    @classmethod
    def all(cls, whole: int) -> Shard:
        """A dimension that is not divided."""
        return cls(0, whole, whole)

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def index(self) -> slice:
        return slice(self.start, self.stop)

    def times(self, count: int) -> Shard:
        """The same part of a dimension with `count` elements for each of this one's."""
        return Shard(self.start * count, self.stop * count, self.whole * count)


def split(whole: int, group: Group) -> Shard:
    """The rank's part of a dimension. Raises ValueError if it does not divide evenly."""
    if whole % group.size:
        raise ValueError(f"{whole} elements cannot be divided evenly among {group.size} ranks")
    size = whole // group.size
    return Shard(group.rank * size, (group.rank + 1) * size, whole)


def split_or_copy(whole: int, group: Group) -> Shard:
    """Like `split`; with fewer elements than ranks, one element, which several ranks hold."""
    if whole >= group.size:
        return split(whole, group)
    if group.size % whole:
        raise ValueError(f"{whole} elements cannot be copied evenly to {group.size} ranks")
    start = group.rank * whole // group.size
    return Shard(start, start + 1, whole)


def require_size(config: ModelConfig, size: int) -> None:
    """Raises ModelError, listing the possible sizes, if the model cannot be divided among `size`
    ranks."""
    obstacle = _obstacle(config, size)
    if obstacle is not None:
        possible = [
            str(other)
            for other in range(1, config.num_attention_heads + 1)
            if _obstacle(config, other) is None
        ]
        raise ModelError(
            f"this model cannot be divided among {size} ranks: {obstacle}; possible numbers are "
            f"{', '.join(possible)}"
        )


def _obstacle(config: ModelConfig, size: int) -> Optional[str]:
    for name in ("num_attention_heads", "intermediate_size", "vocab_size"):
        whole = getattr(config, name)
        if whole % size:
            return f"{name} is {whole}, not a multiple of {size}"
    kv_heads = config.num_key_value_heads
    if kv_heads % size and size % kv_heads:
        return f"num_key_value_heads is {kv_heads}, neither a multiple nor a divisor of {size}"
    return None
