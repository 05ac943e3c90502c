"""Ranks with a GPU each: exchanges by NCCL, those of few rows through each other's memory.

All of them are launched on the current stream and return at once; graphs capture them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from datetime import timedelta
from typing import Any, Iterator, Optional

import torch
from torch import distributed as dist

from vllm.ops import comm
from vllm.parallel.group import Group
from vllm.parallel.peer_memory import PeerMemory
from vllm.parallel.torch_group import LostPeerError

# How long giving up NCCL's connections may hold up the process. The kernel ends them with it.
_ABORT_SECONDS = 2.0


class CudaGroup(Group):
    """A group whose ranks are processes with one GPU each.

    process_group: of NCCL.
    device: this rank's GPU.
    memory: through which ranks of one host reach each other; None is NCCL for everything.

    A rank that is gone is noticed by whoever waits for the device: the kernels of the others wait
    for it until `abort`.
    """

    def __init__(
        self, process_group: Any, device: torch.device, memory: Optional[PeerMemory] = None
    ) -> None:
        super().__init__(process_group.rank(), process_group.size())
        self.device = device
        self.memory = memory
        self._group = process_group
        self._aborting: Optional[threading.Thread] = None

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.contiguous()
        if self._goes_by_memory(tensor):
            assert self.memory is not None
            comm.all_reduce(tensor, tensor, self.memory.group, two_shots=self._two_shots(tensor))
        else:
            with _exchange():
                _wait(self._group.allreduce([tensor], _on_stream(dist.AllreduceOptions())))
        return tensor

    def add_norm(
        self, delta: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        if not self._goes_by_memory(delta):
            return super().add_norm(delta, residual, weight, epsilon)
        assert self.memory is not None
        comm.all_reduce_add_rms_norm(
            delta,
            residual,
            weight,
            epsilon,
            self.memory.group,
            two_shots=self._two_shots(delta),
        )
        return delta

    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.size)] if self.rank == 0 else []
        options = _on_stream(dist.GatherOptions())
        options.rootRank = 0
        with _exchange():
            _wait(self._group.gather([parts] if parts else [], [tensor], options))
        return torch.cat(parts, dim=-1) if parts else None

    def broadcast(self, tensor: torch.Tensor) -> None:
        options = _on_stream(dist.BroadcastOptions())
        options.rootRank = 0
        with _exchange():
            _wait(self._group.broadcast([tensor], options))

    def warm_up(self) -> None:
        """Makes the connections that exchanges need, which a capture could not."""
        small = torch.zeros(self.size, 1, device=self.device)
        _wait(self._group.allreduce([small], _on_stream(dist.AllreduceOptions())))
        self.gather(small)
        self.broadcast(small)
        torch.cuda.synchronize(self.device)

    def abort(self) -> None:
        """Nobody is waited for any more: kernels that wait end, with results that mean nothing."""
        if self._aborting is not None:
            return
        if self.memory is not None:
            self.memory.stop()
        # NCCL ends its kernels at once, and then waits until no graph has any of them.
        self._aborting = threading.Thread(target=self._abort, name="vllm-abort", daemon=True)
        self._aborting.start()

    def close(self) -> None:
        """Ends what there is between the ranks, when no graph and no kernel uses it any more."""
        self.abort()
        assert self._aborting is not None
        self._aborting.join(_ABORT_SECONDS)
        if self.memory is not None:
            self.memory.close()
            self.memory = None

    def _abort(self) -> None:
        abort = getattr(self._group, "abort", None) or getattr(self._group, "_abort", None)
        if abort is not None:  # torch before 2.6 has none: the process ends with its kernels
            with contextlib.suppress(RuntimeError):
                abort()

    def _goes_by_memory(self, tensor: torch.Tensor) -> bool:
        memory = self.memory
        if memory is None or tensor.dim() != 2 or not tensor.is_contiguous():
            return False
        row_bytes = tensor.shape[1] * tensor.element_size()
        peers = memory.group
        return (
            tensor.shape[0] <= peers.rows
            and row_bytes <= peers.row_bytes
            and row_bytes % 16 == 0
            and tensor.dtype in _DTYPES
        )

    def _two_shots(self, tensor: torch.Tensor) -> bool:
        return tensor.nbytes >= (_TWO_SHOT_BYTES if self.size > 2 else _TWO_SHOT_BYTES_OF_TWO)


_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Tensors of as many bytes are sent in two shots. Between two ranks both ways send the same bytes,
# but two shots add up half of them each (benchmarks/cuda_all_reduce.py, two H200). For more ranks
# one shot sends half as many times the bytes as there are ranks; that was not measured.
_TWO_SHOT_BYTES_OF_TWO = 4 << 20
_TWO_SHOT_BYTES = 256 << 10


def connect_nccl(
    store: dist.Store,
    rank: int,
    size: int,
    *,
    device: torch.device,
    timeout: timedelta,
    loopback: bool,
) -> CudaGroup:
    """Connects the ranks by NCCL; returns when all of them are there.

    store, timeout: as for `connect_gloo`.
    loopback: meet on this machine alone; else where `NCCL_SOCKET_IFNAME` says, or NCCL finds.

    Raises LostPeerError.
    """
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout
    name = "NCCL_SOCKET_IFNAME"
    told = os.environ.get(name)
    if loopback and told is None:
        os.environ[name] = "lo"
    try:
        with _exchange(), torch.cuda.device(device):
            group = CudaGroup(dist.ProcessGroupNCCL(store, rank, size, options), device)
            group.warm_up()
        return group
    finally:
        if told is None:
            os.environ.pop(name, None)


def _on_stream(options: Any) -> Any:
    """So that newer versions of torch launch on the current stream, and not beside it."""
    if hasattr(options, "asyncOp"):
        options.asyncOp = False
    return options


def _wait(work: Any) -> None:
    """Has the current stream wait for an exchange; what is None was launched on it."""
    if work is not None:
        work.wait()


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostPeerError(f"an exchange between ranks: {error}") from error
