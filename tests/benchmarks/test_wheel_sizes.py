"""The record of sizes names a compiler for whatever a wheel has code of."""

from __future__ import annotations

import zipfile

import pytest

from benchmarks.wheel_sizes import PARTS, code_sizes, compilers, measure
from ci import matrix, native
from tests.ci.support.wheels import Factory

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


def test_variants_that_were_not_built_stay_in_the_record(tmp_path):
    factory = Factory(tmp_path, matrix.load().of_commit())
    commit = factory.commit(1)
    wheels = factory.wheels(commit)
    before = {name: {"cu118": name, "cu128": name} for name in PARTS}
    record = measure(wheels[0].path.parent, before)
    for name in PARTS:
        assert list(record[name]) == ["cu118", "cu121", "cu128"]
        assert record[name]["cu128"] == name
        assert before[name]["cu118"] == name
    assert record["commits"]["cu118"] == record["commits"]["cu121"] == commit.sha
    sizes = {wheel.path.name: wheel.size for wheel in wheels}
    assert (
        record["bytes"]["cu118"]["x86_64"]
        == sizes["vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"]
    )
    assert (
        record["bytes"]["cu121"].keys() == record["code"]["cu121"].keys() == {"x86_64", "aarch64"}
    )
