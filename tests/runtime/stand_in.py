"""Runs code of a process of its own in which a stand-in for the CUDA driver has one GPU.

`libcuda.c` is the stand-in, and `GPUS` the GPUs that it can be. The torch beside it is a stand-in
too, for there is no CUDA tensor without a GPU: what the library reads of one, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """Shared memory, in KiB: CUDA C++ Programming Guide, "Technical Specifications per Compute
    Capability"."""

    capability: tuple[int, int]
    processors: int
    processor_kib: int
    block_kib: int
    cuda: int  # the first driver that knows it, as 12080 for CUDA 12.8

    def __str__(self) -> str:
        return "{}.{}".format(*self.capability)


GPUS = (
    Gpu((7, 0), 80, 96, 96, 9000),
    Gpu((7, 2), 8, 96, 96, 10000),
    Gpu((7, 5), 40, 64, 64, 10000),
    Gpu((8, 0), 108, 164, 163, 11000),
    Gpu((8, 6), 84, 100, 99, 11010),
    Gpu((8, 7), 16, 164, 163, 11040),
    Gpu((8, 9), 128, 100, 99, 11080),
    Gpu((9, 0), 132, 228, 227, 11080),
    Gpu((10, 0), 148, 228, 227, 12080),
    Gpu((10, 3), 148, 228, 227, 12090),
    Gpu((11, 0), 20, 228, 227, 13000),
    Gpu((12, 0), 170, 100, 99, 12080),
    Gpu((12, 1), 48, 100, 99, 12090),
)

TORCH = """\
import itertools, sys, types
torch = types.ModuleType("torch")
for name in ("float32", "float16", "bfloat16", "int32", "int64"):
    setattr(torch, name, name)
torch._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda device: 0)
class Tensor:
    is_cpu, is_cuda = False, True
    addresses = itertools.count(1 << 40, 1 << 30)  # each has memory of its own
    def __init__(self, dtype, *shape):
        self.dtype, self.shape, self.at = dtype, shape, next(self.addresses)
    def data_ptr(self): return self.at
    def get_device(self): return 0
    def is_contiguous(self): return True
    def stride(self):
        strides = [1]
        for size in self.shape[:0:-1]: strides.insert(0, strides[0] * size)
        return tuple(strides)
torch.Tensor = Tensor
sys.modules["torch"] = torch
from vllm import _C
"""


class StandIn:
    """The stand-in, compiled, with a folder of device code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = Path(__file__).with_name("libcuda.c")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-w"]
        library = folder / "libcuda.so.1"
        subprocess.run([*compiler, "-o", str(library), str(source)], check=True)

    def run(self, gpu: Gpu, driver: int, code: Path, script: str) -> Any:
        """What `script` gives as `found`, with `torch` and `_C` at hand."""
        numbers = {
            "MAJOR": gpu.capability[0],
            "MINOR": gpu.capability[1],
            "PROCESSORS": gpu.processors,
            "PROCESSOR_KIB": gpu.processor_kib,
            "BLOCK_KIB": gpu.block_kib,
            "DRIVER": driver,
        }
        self.log.unlink(missing_ok=True)
        environ = {
            **os.environ,
            **{f"STAND_IN_{name}": str(value) for name, value in numbers.items()},
            "STAND_IN_LOG": str(self.log),
            "LD_LIBRARY_PATH": str(self.folder),
            "VLLM_KERNEL_DIR": str(code),
        }
        done = subprocess.run(
            [sys.executable, "-c", f"{TORCH}{script}\nimport json; print(json.dumps(found))"],
            env=environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def log(self) -> Path:
        return self.folder / "launches.txt"

    def launches(self) -> list[tuple[str, int]]:
        """Name and bytes of dynamic shared memory of each kernel that was launched."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        return [(name, int(shared)) for name, shared, _ in map(str.split, lines)]
