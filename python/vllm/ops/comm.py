"""The ops of ``csrc/ops/comm``: all-reduce among ranks of one host, through peer memory. CUDA only.

All ranks must call them in the same order, with tensors of the same shape and dtype. They are
launched like the other ops; on the GPU they wait for the other ranks.
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
    """Memory of each rank that all ranks can write to; see `vllm.parallel.peer_memory`.

    addresses: int64 [ranks] on the CPU, the address of each rank's memory in this process.
    rank: the index of this rank.
    rows: the most rows of one call.
    row_bytes: the most bytes of a row, a multiple of 16.
    stop: host address of an int32. 1 makes kernels stop waiting for other ranks; results are
        invalid from then on.
    """

    addresses: Tensor
    rank: int
    rows: int
    row_bytes: int
    stop: int


def exchange_bytes(ranks: int, rows: int, row_bytes: int) -> int:
    """The size of each rank's peer memory, in bytes."""
    nbytes: int = _C.exchange_bytes(ranks, rows, row_bytes)
    return nbytes


def all_reduce(out: Tensor, input: Tensor, peers: PeerGroup, *, two_shots: bool = False) -> None:
    """out = the sum of all ranks' inputs.

    Adds in float32, in the order of the ranks, and rounds once: all ranks get the same bits.

    out: [..., width], written; may be `input` itself.
    input: [..., width]; a row has a multiple of 16 bytes.
    two_shots: one rank adds up each row and sends the sum to the others, instead of every rank
        adding up all rows: fewer bytes with more than two ranks, but two transfers in sequence.
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
    """`all_reduce` of input, then `fused_add_rms_norm`, in one kernel with the same bits.

    input: [..., width], this rank's addend; overwritten with the norm.
    residual: [..., width], the same in all ranks; overwritten with the sum.
    weight: [width].
    """
    _C.all_reduce_add_rms_norm(input, residual, weight, epsilon, two_shots, *peers)
