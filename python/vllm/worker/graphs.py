"""CUDA graphs: many kernels, launched as one.

A step of a small model is a few hundred kernels of a few microseconds each, which Python launches
more slowly than the device runs them. A graph is captured once and replayed for every step of its
kind: it reads the memory in which steps are described, so nothing of it changes but that memory's
contents.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Hashable, Set

import torch

# Kinds of steps come and go with the number and the length of sequences.
MOST_GRAPHS = 64


class Graphs:
    """Graphs by kind; the least recently used go first.

    A kind is computed kernel by kernel the first time, which readies whatever a kernel readies at
    its first launch, and captured the second time.

    All share one memory pool: they are replayed one at a time, and what they compute lies in
    tensors that they were not captured with.
    """

    def __init__(self, device: torch.device) -> None:
        self._graphs: OrderedDict[Hashable, torch.cuda.CUDAGraph] = OrderedDict()
        self._seen: Set[Hashable] = set()
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, kind: Hashable, compute: Callable[[], None]) -> None:
        """Does what `compute` does, on the current stream. It must launch the same kernels with
        the same arguments whenever the kind is the same, and wait for nothing."""
        if kind not in self._seen:
            self._seen.add(kind)
            compute()
            return
        graph = self._graphs.get(kind)
        if graph is None:
            if len(self._graphs) == MOST_GRAPHS:
                torch.cuda.current_stream().synchronize()  # it may be running
                self._graphs.popitem(last=False)
            graph = self._graphs[kind] = self._capture(compute)
        self._graphs.move_to_end(kind)
        graph.replay()

    def clear(self) -> None:
        """Forgets all graphs: the memory that they read is about to move."""
        torch.cuda.current_stream().synchronize()  # one may be running
        self._graphs.clear()

    def _capture(self, compute: Callable[[], None]) -> torch.cuda.CUDAGraph:
        if not self._graphs:  # torch gives up a pool with the last graph that uses it
            self._pool = torch.cuda.graph_pool_handle()
        # Each thread has its own, made when it is first asked for.
        torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # What other threads do on the device meanwhile is no part of the capture, nor an error.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                compute()
            finally:
                graph.capture_end()
        return graph


def padded(count: int) -> int:
    """How many sequences a graph for `count` of them has: one of four sizes to each power of two,
    so that there are few graphs, and at most a fifth of a step is in vain."""
    step = max(1, 1 << max(0, (count - 1).bit_length() - 3))
    return -(-count // step) * step
