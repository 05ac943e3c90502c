"""The executor that runs the model in this process, on one device."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Dict, Iterator, List, Optional, Tuple

import torch

from vllm.engine.executor import Executor, StepResult
from vllm.engine.step_input import SizeClass, StepInput
from vllm.worker.model_runner import ModelRunner
from vllm.worker.results import PendingResult


class LocalExecutor(Executor):
    """Runs steps with a `ModelRunner`.

    num_blocks, block_size: of the runner's caches.
    load_seconds: how long each part of loading took, by its name.

    On a GPU, `submit` only launches the step. On a CPU, `submit` returns when it is computed.
    """

    def __init__(self, runner: ModelRunner, *, num_blocks: int, block_size: int) -> None:
        self.runner = runner
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_rows = runner.max_rows
        self.overlaps = runner.device.type == "cuda"
        self.load_seconds: Dict[str, float] = {}
        self._memory: List[Tuple[memoryview, torch.Tensor]] = []  # the same bytes
        # Layers compute in the dtypes that they were made for; a script's torch.autocast, which
        # holds for its whole thread, would change those of products alone.
        self._own_dtypes = torch.autocast(runner.device.type, enabled=False)

    def allocate(self, nbytes: int) -> memoryview:
        """Pinned memory if the device is a GPU, so that copies from it are asynchronous."""
        pinned = self.runner.device.type == "cuda"
        tensor = torch.empty(nbytes, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        view = _view(tensor)
        self._memory.append((view, tensor))
        return view

    def room(self, size: SizeClass) -> int:
        return self.runner.room(size)

    def submit(self, step: StepInput) -> PendingResult:
        with self._on_device():
            return self.runner.run(step, self._tensor(step.memory))

    def sample(self, handle: PendingResult) -> None:
        assert handle.unsampled is not None
        masks = handle.unsampled.step.masks
        assert masks is not None
        self.masks_are_ready(handle)  # its graph waits too, whoever launches it
        with self._on_device():
            self.runner.sample(handle, self._tensor(masks.memory))

    def launch_ahead(self, handle: PendingResult, step: StepInput) -> Optional[PendingResult]:
        assert handle.unsampled is not None
        masks = handle.unsampled.step.masks
        assert masks is not None
        with self._on_device():
            return self.runner.launch_ahead(
                handle, self._tensor(masks.memory), step, self._tensor(step.memory)
            )

    def masks_are_ready(self, handle: PendingResult) -> None:
        self.runner.masks_are_ready(handle.masks)

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """What is computed meanwhile is on the executor's GPU, if it has one, in its own dtypes."""
        with self._own_dtypes:
            if self.runner.device.type == "cpu":
                yield
            else:
                with torch.cuda.device(self.runner.device):
                    yield

    def _tensor(self, memory: memoryview) -> torch.Tensor:
        """The uint8 tensor over memory that `allocate` returned."""
        return next(tensor for view, tensor in self._memory if view is memory)

    def collect(self, handle: PendingResult) -> StepResult:
        result = handle.wait()
        self.runner.check(handle)
        return result

    def reset(self) -> None:
        self.runner.let_all_pass()
        if self.runner.device.type == "cuda":
            torch.cuda.synchronize(self.runner.device)

    def close(self) -> None:
        self.runner.let_all_pass()
        with self._on_device():
            self.runner.close()


def _view(tensor: torch.Tensor) -> memoryview:
    """A writable view of a tensor's bytes. The tensor must outlive the view."""
    view = ctypes.pythonapi.PyMemoryView_FromMemory
    view.restype = ctypes.py_object
    view.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
    writable = 0x200  # PyBUF_WRITE
    made: memoryview = view(tensor.data_ptr(), len(tensor), writable)
    return made
