"""Collectives of ranks with a GPU each: by NCCL, or for few rows through peer memory.

They are launched on the current stream and return at once; CUDA graphs can capture them.
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

# How long `close` waits for NCCL to abort. The operating system ends the rest with the process.
_ABORT_SECONDS = 2.0


class CudaGroup(Group):
    """A group whose ranks are processes with one GPU each.

    process_group: NCCL's.
    device: this rank's GPU.
    memory: peer memory of ranks on one host; None uses NCCL for everything.

    These methods do not detect that another rank has died: the kernels wait for it until `abort`.
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
        peers = self._peers_for(tensor)
        if peers is not None:
            for part in torch.split(tensor, peers.rows):
                comm.all_reduce(part, part, peers, two_shots=self._two_shots(part))
        else:
            with _exchange():
                _wait(self._group.allreduce([tensor], _on_stream(dist.AllreduceOptions())))
        return tensor

    def add_norm(
        self, delta: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        peers = self._peers_for(delta)
        if peers is None:
            return super().add_norm(delta, residual, weight, epsilon)
        for part, sums in zip(torch.split(delta, peers.rows), torch.split(residual, peers.rows)):
            comm.all_reduce_add_rms_norm(
                part, sums, weight, epsilon, peers, two_shots=self._two_shots(part)
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
        """Opens NCCL's connections, which must not happen during a graph capture."""
        small = torch.zeros(self.size, 1, device=self.device)
        _wait(self._group.allreduce([small], _on_stream(dist.AllreduceOptions())))
        self.gather(small)
        self.broadcast(small)
        torch.cuda.synchronize(self.device)

    def abort(self) -> None:
        """Ends kernels that wait for other ranks; their results are invalid."""
        if self._aborting is not None:
            return
        if self.memory is not None:
            self.memory.stop()
        # NCCL ends its kernels at once, and then waits until no graph has any of them.
        self._aborting = threading.Thread(target=self._abort, name="vllm-abort", daemon=True)
        self._aborting.start()

    def close(self) -> None:
        """Frees the group's resources; call it when no graph and no kernel uses them any more."""
        self.abort()
        assert self._aborting is not None
        self._aborting.join(_ABORT_SECONDS)
        if self.memory is not None:
            self.memory.close()
            self.memory = None

    def _abort(self) -> None:
        abort = getattr(self._group, "abort", None) or getattr(self._group, "_abort", None)
        if abort is not None:  # torch before 2.6 has no abort: the kernels end with the process
            with contextlib.suppress(RuntimeError):
                abort()

    def _peers_for(self, tensor: torch.Tensor) -> Optional[comm.PeerGroup]:
        """The peer memory through which rows of a tensor can be exchanged; None without any."""
        if self.memory is None or tensor.dim() != 2 or not tensor.is_contiguous():
            return None
        peers, row_bytes = self.memory.group, tensor.shape[1] * tensor.element_size()
        fits = row_bytes <= peers.row_bytes and row_bytes % 16 == 0 and tensor.dtype in _DTYPES
        return peers if fits else None

    def _two_shots(self, tensor: torch.Tensor) -> bool:
        return tensor.nbytes >= (_TWO_SHOT_BYTES if self.size > 2 else _TWO_SHOT_BYTES_OF_TWO)


_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# From this many bytes on, the two-shot all-reduce is used. With two ranks both algorithms send the
# same bytes, but in two shots each rank adds up only half (benchmarks/cuda_all_reduce.py, two
# H200). With n ranks one shot sends n / 2 times as many bytes; the limit was not measured.
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
    """Connects the ranks by NCCL; returns when all of them are connected.

    store, timeout: as for `connect_gloo`.
    loopback: use the loopback interface, unless `NCCL_SOCKET_IFNAME` names another.

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
    """Makes newer versions of torch launch on the current stream."""
    if hasattr(options, "asyncOp"):
        options.asyncOp = False
    return options


def _wait(work: Any) -> None:
    """Makes the current stream wait for a collective; None was launched on that stream."""
    if work is not None:
        work.wait()


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostPeerError(f"an exchange between ranks: {error}") from error
