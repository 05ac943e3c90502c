"""CUDA graphs: many kernels in one launch.

A step of a small model is a few hundred kernels of a few microseconds each, which Python launches
more slowly than the device runs them. A graph is captured once and replayed for every step of its
kind. It reads the step's input from a fixed address, so only the contents there change.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Hashable, NamedTuple, Optional, Set

import torch

from vllm.engine.step_input import StepInput

# The most graphs kept. The number and the length of the sequences determine a step's kind.
MOST_GRAPHS = 96


class Graphs:
    """An LRU cache of CUDA graphs by kind of step.

    The first step of a kind is launched kernel by kernel, so that first launches can initialise
    what they need; the second one is captured.

    All graphs share one memory pool. That is safe because they are replayed one at a time, and
    their results are copied to tensors outside the pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._graphs: OrderedDict[Hashable, torch.cuda.CUDAGraph] = OrderedDict()
        self._seen: Set[Hashable] = set()
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, kind: Hashable, compute: Callable[[], None]) -> None:
        """Does what `compute` does, on the current stream. For the same kind, `compute` must launch
        the same kernels with the same arguments; it must not synchronise."""
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

    def has(self, kind: Hashable) -> bool:
        """Whether `run` of this kind only replays: nothing is captured, loaded or allocated."""
        return kind in self._graphs

    def clear(self) -> None:
        """Deletes all graphs, before memory that they use is moved or freed."""
        torch.cuda.current_stream().synchronize()  # one may be running
        self._graphs.clear()

    def _capture(self, compute: Callable[[], None]) -> torch.cuda.CUDAGraph:
        if not self._graphs:  # torch deletes a pool with the last graph that uses it
            self._pool = torch.cuda.graph_pool_handle()
        # Create this thread's cuBLAS handle before the capture.
        torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # Device calls of other threads are neither captured nor errors.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                compute()
            finally:
                graph.capture_end()
        return graph


class GraphShape(NamedTuple):
    """What a CUDA graph computes a fixed number of, padding included.

    selects: whether `StepInput.rows` selects the rows; otherwise each token is a sequence and a
        row.
    """

    tokens: int
    sequences: int
    rows: int
    selects: bool

    @classmethod
    def of(cls, step: StepInput, most_tokens: int) -> Optional[GraphShape]:
        """The shape of the graph that runs a step; None if it is launched kernel by kernel.

        most_tokens: of a step in which not every sequence decodes.
        """
        if step.logprobs or step.prompt_logprobs or step.num_fresh:
            return None
        if step.num_tokens == step.num_sequences == step.num_rows:
            count = padded(step.num_tokens)
            return cls(count, count, count, selects=False)
        if step.num_tokens > most_tokens:
            return None
        size = step.layout.size
        return cls(padded_tokens(step.num_tokens), size.sequences, size.rows, selects=True)


def padded(count: int) -> int:
    """The number of sequences that `count` is padded to: four sizes for each power of two, so that
    graphs are few and at most a fifth of a step is padding. Above 128 a product's time grows with
    its rows, and there are more sizes."""
    if count > 128:
        return _multiple(count, 8 if count <= 256 else 32)
    return _multiple(count, max(1, 1 << max(0, (count - 1).bit_length() - 3)))


def padded_tokens(count: int) -> int:
    """The number of tokens that those of a step with prompts are padded to. Matrix products of more
    than a few hundred rows compute tiles of 128, so multiples of that cost them nothing."""
    if count <= 128:
        return padded(count)
    return _multiple(count, 32 if count <= 256 else 64 if count <= 512 else 128)


def _multiple(count: int, step: int) -> int:
    return -(-count // step) * step
