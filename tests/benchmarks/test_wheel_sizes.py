"""The record of sizes names a compiler for whatever a wheel has code of."""

from __future__ import annotations

import zipfile

import pytest

from benchmarks.wheel_sizes import code_sizes, compilers
from ci import matrix, native

CUDAS = matrix.load().cudas


@pytest.mark.parametrize("cuda", CUDAS, ids=lambda cuda: cuda.variant)
def test_every_architecture_has_its_compiler(cuda):
    folders = {
        folder
        for platform in matrix.load().platforms_of(cuda)
        for folder, _ in native.code_folders(cuda, platform.processor)
    }
    assert folders == compilers(cuda).keys()


def test_the_code_of_an_architecture_is_summed_up(tmp_path):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:  # stored: as many bytes as there are
        for name, size in (("sm_90a/a.cubin", 3), ("sm_90a/b.cubin", 4), ("compute_90/a.ptx", 5)):
            archive.writestr(f"vllm/kernels/cu121/{name}", b"x" * size)
        archive.writestr("vllm/_C.abi3.so", b"x" * 9)
    (default,) = (cuda for cuda in CUDAS if cuda.default)
    assert code_sizes(path, default) == {
        "sm_90a": {"compiler": "12.1", "bytes": 7},
        "compute_90": {"compiler": "12.1", "bytes": 5},
    }
