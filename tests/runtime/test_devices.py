"""What the library makes of a GPU's own numbers, as a stand-in for the driver gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Attributes by their numbers in cuda.h. What nobody asks before a kernel is loaded is not there.
DRIVER = """\
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'G'; name[1] = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 16: *value = PROCESSORS; return 0;
    case 75: *value = MAJOR; return 0;
    case 76: *value = MINOR; return 0;
    case 81: *value = PROCESSOR_KIB * 1024; return 0;
    case 97: *value = BLOCK_KIB * 1024; return 0;
  }
  return 1;
}
#define NOT_HERE(name) int name() { return 999; }
NOT_HERE(cuDevicePrimaryCtxRetain) NOT_HERE(cuCtxGetCurrent) NOT_HERE(cuCtxPushCurrent_v2)
NOT_HERE(cuCtxPopCurrent_v2) NOT_HERE(cuModuleLoadDataEx) NOT_HERE(cuModuleGetFunction)
NOT_HERE(cuFuncSetAttribute) NOT_HERE(cuLaunchKernel) NOT_HERE(cuThreadExchangeStreamCaptureMode)
NOT_HERE(cuGetErrorName) NOT_HERE(cuGetErrorString) NOT_HERE(cuCtxSynchronize)
NOT_HERE(cuMemAlloc_v2) NOT_HERE(cuMemFree_v2) NOT_HERE(cuMemsetD8_v2) NOT_HERE(cuIpcGetMemHandle)
NOT_HERE(cuIpcOpenMemHandle_v2) NOT_HERE(cuIpcCloseMemHandle)
"""

HEAD_SIZES = (64, 80, 96, 128, 256)
ASK = f"""\
import json
from vllm import _C, ops
print(json.dumps([_C.devices(), [ops.attention_blocks(size, 0) for size in {HEAD_SIZES}]]))
"""


@pytest.fixture
def ask(tmp_path):
    """ask(code, capability, processors, KiB of each, KiB of a block): devices, and blocks."""
    pytest.importorskip("ziglang", reason="the releases' compiler, ziglang, is not installed")

    def ask_(code, capability, *numbers):
        names = ("MAJOR", "MINOR", "PROCESSORS", "PROCESSOR_KIB", "BLOCK_KIB")
        defines = [f"-D{name}={value}" for name, value in zip(names, (*capability, *numbers))]
        (tmp_path / "driver.c").write_text(DRIVER)
        (tmp_path / "code" / code).mkdir(parents=True)
        compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-w", *defines]
        files = ["-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "driver.c")]
        subprocess.run([*compiler, *files], check=True)
        environ = {"LD_LIBRARY_PATH": str(tmp_path), "VLLM_KERNEL_DIR": str(tmp_path / "code")}
        done = subprocess.run(
            [sys.executable, "-c", ASK],
            env={**os.environ, **environ},
            check=True,
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout)

    return ask_


# Shared memory: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
@pytest.mark.parametrize(
    ("code", "capability", "processors", "processor_kib", "block_kib", "on_a_processor"),
    [
        ("sm_70", (7, 0), 80, 96, 96, [1, 1, 1, 1, 1]),
        ("sm_80", (8, 0), 108, 164, 163, [1, 1, 1, 1, 1]),
        ("sm_86", (8, 6), 84, 100, 99, [1, 1, 1, 1, 1]),
        ("sm_90a", (9, 0), 132, 228, 227, [2, 2, 2, 2, 1]),
        ("sm_100", (10, 0), 148, 228, 227, [2, 2, 2, 2, 1]),
        ("compute_90", (10, 0), 148, 228, 227, [2, 2, 2, 2, 1]),
        ("sm_120", (12, 0), 170, 100, 99, [1, 1, 1, 1, 1]),
        ("compute_90", (12, 0), 170, 100, 99, [1, 1, 1, 1, 1]),
    ],
)
def test_blocks_of_attention_are_what_shared_memory_has_room_for(
    ask, code, capability, processors, processor_kib, block_kib, on_a_processor
):
    devices, blocks = ask(code, capability, processors, processor_kib, block_kib)
    assert devices == [["G", *capability]]
    assert blocks == [processors * each for each in on_a_processor]
