"""Copies weights from files to a GPU.

Several threads take pieces from a queue. Each thread is double-buffered: it copies a piece from the
file into pinned memory while the device copies its previous piece. One thread reads about 5 GB/s
from the page cache, four read 25; the device accepts 55 (benchmarks/cuda_load.py).
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Deque, Iterable, Iterator, NamedTuple, Optional, Tuple

import torch

from vllm.layers.weights import Target
from vllm.models.checkpoint import Stored

_THREADS = 4  # torch uses further threads to copy a piece
_PIECE_BYTES = 16 << 20


class Piece(NamedTuple):
    """Some rows of a tensor in a file, and their target on the device."""

    stored: Stored
    name: str
    shape: Tuple[int, ...]  # of the whole tensor
    part: Tuple[slice, ...]
    target: torch.Tensor


def upload(tensors: Iterable[Tuple[Stored, str, Target]], device: torch.device) -> None:
    """Fills the targets, which are on a GPU, from files. Raises ModelError as `Stored.read`."""
    pieces = deque(piece for tensor in tensors for piece in divide(*tensor))
    torch.cuda.synchronize(device)  # kernels in flight may still use the targets' memory
    with ThreadPoolExecutor(_THREADS) as pool:
        lanes = [pool.submit(_work, pieces, device) for _ in range(_THREADS)]
        for lane in lanes:
            lane.result()


def divide(
    stored: Stored, name: str, target: Target, piece_bytes: int = _PIECE_BYTES
) -> Iterator[Piece]:
    """Divides a tensor into pieces of some rows each; see `upload`."""
    rows, *columns = target.index
    row_bytes = max(1, target.tensor[:1].numel() * target.tensor.element_size())
    step = max(1, piece_bytes // row_bytes)
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        part = target.tensor.data[start - rows.start : stop - rows.start]
        yield Piece(stored, name, target.shape, (slice(start, stop), *columns), part)


def _work(pieces: Deque[Piece], device: torch.device) -> None:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device), torch.cuda.stream(stream):
        buffers = [_Pinned(), _Pinned()]
        while True:
            try:
                piece = pieces.popleft()
            except IndexError:
                break
            try:
                buffers.reverse()
                buffers[0].send(piece.stored.read(*piece[1:4]), piece.target)
            except BaseException:
                pieces.clear()  # ends the other threads
                raise
        stream.synchronize()


class _Pinned:
    """A buffer in pinned host memory, which the device copies from asynchronously."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._sent: Optional[torch.cuda.Event] = None

    def send(self, part: torch.Tensor, target: torch.Tensor) -> None:
        """Waits until the previous copy from this buffer is done, then starts a copy on the current
        stream."""
        if self._sent is not None:
            self._sent.synchronize()
        if part.nbytes > len(self._memory):
            size = max(part.nbytes, _PIECE_BYTES)
            self._memory = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
        held = self._memory[: part.nbytes].view(part.dtype).view(part.shape)
        held.copy_(part)
        if held.dtype != target.dtype:  # converted on the device
            held = held.to(target.device, non_blocking=True)
        target.copy_(held, non_blocking=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._sent.record()
