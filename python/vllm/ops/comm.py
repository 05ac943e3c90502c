"""The ops of ``csrc/ops/comm``: what ranks of one host compute together, on CUDA alone.

All ranks call them in the same order, with tensors of the same shape and dtype. They are launched
like the other ops, and wait on the GPU until the others' have been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vllm.ops.native import _C

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

MOST_RANKS = 8  # kMostRanks
MOST_ROW_BYTES = 2048 * 16  # kMostRowPacks


class PeerGroup(NamedTuple):
    """Memory of each rank that all of them reach; see `vllm.parallel.peer_memory`.

    addresses: int64 [ranks] on the CPU, where each rank's memory is for this one.
    rank: which of them this is.
    rows: that can be exchanged in one call.
    row_bytes: of the widest row, a multiple of 16.
    stop: address on the host of an int32 that is set to 1 when nobody is to be waited for any more;
        what calls give from then on means nothing.
    """

    addresses: Tensor
    rank: int
    rows: int
    row_bytes: int
    stop: int


def exchange_bytes(ranks: int, rows: int, row_bytes: int) -> int:
    """Bytes of each rank's memory."""
    nbytes: int = _C.exchange_bytes(ranks, rows, row_bytes)
    return nbytes


def all_reduce(out: Tensor, input: Tensor, peers: PeerGroup, *, two_shots: bool = False) -> None:
    """out = the sum of all ranks' inputs.

    Added in float32 in the order of the ranks, rounded once: the same bits in all ranks.

    out: [..., width], written; may be `input` itself.
    input: [..., width], in rows of a multiple of 16 bytes.
    two_shots: each row is added up by one rank, which sends the sum to the others, rather than by
        all: fewer bytes where there are more than two ranks, and two ways one after the other.
    """
    _C.all_reduce(out, input, two_shots, *peers)


def all_reduce_add_rms_norm(
    input: Tensor,
    residual: Tensor,
    weight: Tensor,
    epsilon: float,
    peers: PeerGroup,
    *,
    two_shots: bool = False,
) -> None:
    """`all_reduce` of input, then `fused_add_rms_norm`: what these two give, bit for bit.

    input: [..., width], this rank's addend; overwritten with the norm.
    residual: [..., width], the same in all ranks; overwritten with the sum.
    weight: [width].
    """
    _C.all_reduce_add_rms_norm(input, residual, weight, epsilon, two_shots, *peers)
