"""The audit of a valid wheel, and of a wheel with each possible defect."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from ci.audit import AuditError, audit, audit_all, host_library
from ci.audit.device_code import cubin_arch
from ci.audit.findings import Finding
from ci.audit.tree import UnknownCommit
from ci.matrix import Matrix, MatrixError
from ci.wheel import symbols
from ci.wheel.reader import BadWheel, WheelFile
from tests.ci.support.toolchain import device_code, extension, nvrtcc, with_symbols

if TYPE_CHECKING:
    from tests.ci.audit.conftest import Sample

Make = Callable[[str], "Sample"]
SM_80 = "vllm/kernels/cu121/sm_80/tiny.cubin"
SM_90A = "vllm/kernels/cu121/sm_90a/tiny.cubin"
PTX = "vllm/kernels/cu121/compute_90/tiny.ptx"
INFO = "vllm-0.5.4.dist-info"
FILES_OF_PACKAGE = ("vllm/__init__.py", "vllm/ops/__init__.py", "vllm/py.typed")


def refuse(path: Path, matrix: Matrix, repo: Path, *words: str) -> None:
    """Audits `path`, whose one finding has to hold all `words`."""
    with pytest.raises(AuditError) as caught:
        audit(path, matrix, repo)
    assert len(caught.value.findings) == 1, caught.value
    text = str(caught.value)
    for word in (path.name, *words):
        assert word in text


@pytest.mark.parametrize("variant", ["cu118", "cu121"])
@pytest.mark.parametrize("tag", ["cp38-abi3", "cp310-cp310"])
def test_a_wheel_in_order(
    make: Make, the_matrix: Matrix, repo: Path, variant: str, tag: str
) -> None:
    sample = make(variant)
    sample.tag = f"{tag}-manylinux1_x86_64"
    report = audit(sample.write(), the_matrix, repo)
    assert report.policy == "manylinux_2_5_x86_64"
    assert report.extension == "limited API of 3.8, no violations"
    assert len(report.device_bytes()["tiny"]) == len(sample.cuda.archs("x86_64")) + len(
        sample.cuda.ptx("x86_64")
    )


def test_the_report_shows_the_largest_members(make: Make, the_matrix: Matrix, repo: Path) -> None:
    report = audit(make("cu121").write(), the_matrix, repo)
    console = Console(file=io.StringIO(), width=80)
    console.print(report.table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text  # nothing is cut off
    for word in ("manylinux_2_5_x86_64", report.wheel.sha256, " 90a ", report.largest()[0][0]):
        assert word in text


def test_auditors_run_once_for_wheels_with_the_same_code(
    make: Make, the_matrix: Matrix, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    check_policy = host_library.check_policy

    def counted(wheel: WheelFile, matrix: Matrix) -> tuple[str, list[Finding]]:
        judged.append(wheel.path.name)
        return check_policy(wheel, matrix)

    monkeypatch.setattr(host_library, "check_policy", counted)
    sample = make("cu121")
    paths = [sample.write()]
    sample.tag = "cp310-cp310-manylinux1_x86_64"
    paths.append(sample.write())
    paths.append(make("cu118").write())
    reports = audit_all(paths, the_matrix, repo)
    assert [report.wheel.path for report in reports] == paths
    assert {report.policy for report in reports} == {the_matrix.main.policy}
    assert judged == [paths[0].name, paths[2].name]
    sample.tag = "cp37-cp37-manylinux1_x86_64"
    with pytest.raises(AuditError):
        audit_all([paths[0], sample.write()], the_matrix, repo)


def test_a_truncated_wheel(make: Make, the_matrix: Matrix, repo: Path) -> None:
    path = make("cu121").write()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadWheel, match="a complete zip archive"):
        audit(path, the_matrix, repo)


@pytest.mark.parametrize(
    "name", ["vllm/__init__.py", "vllm/py.typed", "vllm/_C.abi3.so", SM_80, PTX]
)
def test_a_missing_member(make: Make, the_matrix: Matrix, repo: Path, name: str) -> None:
    sample = make("cu121")
    del sample.members[name]
    with pytest.raises(AuditError) as caught:
        audit(sample.write(), the_matrix, repo)
    assert f"{name}: expected the file, found none" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["vllm/extra.py", "vllm/kernels/cu118/sm_80/tiny.cubin", "vllm/notes.txt", "other/x.py"],
)
def test_an_unexpected_member(make: Make, the_matrix: Matrix, repo: Path, name: str) -> None:
    sample = make("cu121")
    sample.members[name] = device_code("cu121", "8.0", "cubin")
    refuse(sample.write(), the_matrix, repo, f"{name}: expected no such file")


def test_a_python_file_of_another_commit(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.members["vllm/__init__.py"] += b"import os\n"
    refuse(sample.write(), the_matrix, repo, "vllm/__init__.py: expected git blob")


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "LICENSES/Other.txt"])
def test_a_missing_license(make: Make, the_matrix: Matrix, repo: Path, name: str) -> None:
    sample = make("cu121")
    sample.licenses = tuple(other for other in sample.licenses if other != name)
    with pytest.raises(AuditError) as caught:
        audit(sample.write(), the_matrix, repo)
    assert f"{INFO}/licenses/{name}: expected the file, found none" in str(caught.value)
    assert f"{INFO}/METADATA: expected License-File: LICENSE, " in str(caught.value)


def test_a_license_of_other_words(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.words = b"Pay for it.\n"
    words = (f"{INFO}/licenses/LICENSE: expected git blob", "as in the sources")
    refuse(sample.write(), the_matrix, repo, *words)


@pytest.mark.parametrize(
    ("expression", "words"),
    [("Apache", "'Apache' is invalid for 'license-expression'"), ("", "invalid for 'license-exp")],
)
def test_metadata_that_pypi_would_reject(
    make: Make, the_matrix: Matrix, repo: Path, expression: str, words: str
) -> None:
    sample = make("cu121")
    sample.expression = expression
    refuse(
        sample.write(), the_matrix, repo, f"{INFO}/METADATA: expected metadata by the core", words
    )


def test_another_license(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.expression = "MIT"
    refuse(sample.write(), the_matrix, repo, "expected License-Expression: Apache-2.0, found MIT")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("LICENSE", "LICENSE: expected the file among license-files of pyproject.toml, found none"),
        ("NOTICE", "NOTICE: expected the file among license-files of pyproject.toml, found none"),
        ("csrc/kernels", "expected at least one kernel in the sources, found none"),
        ("python/vllm", "expected at least one module under python/ in the sources, found none"),
    ],
)
def test_sources_that_lack_what_a_wheel_is_compared_with(
    make: Make, the_matrix: Matrix, repo: Path, tmp_path: Path, gone: str, words: str
) -> None:
    """A wheel that lacks it too equals its sources, and is wrong nevertheless."""
    copy = tmp_path / "repo"
    shutil.copytree(repo, copy)
    shutil.move(copy / gone, tmp_path / "gone")
    sample = make("cu121").of(dirty=True)
    sample.version = "0.5.4+dirty"
    sample.licenses = tuple(name for name in sample.licenses if name != gone)
    package = {name: name in FILES_OF_PACKAGE for name in sample.members}
    for name, of_package in package.items():
        if of_package if gone == "python/vllm" else gone == "csrc/kernels" and "/kernels/" in name:
            del sample.members[name]
    refuse(sample.write(), the_matrix, copy, words)


def test_a_commit_that_nobody_has(make: Make, the_matrix: Matrix, repo: Path) -> None:
    with pytest.raises(UnknownCommit, match="fetch that commit"):
        audit(make("cu121").of(commit="1" * 40).write(), the_matrix, repo)


def test_a_dirty_wheel_is_compared_with_the_working_tree(
    make: Make, the_matrix: Matrix, repo: Path
) -> None:
    sample = make("cu121").of(dirty=True)
    sample.version = "0.5.4+dirty"
    assert audit(sample.write(), the_matrix, repo).wheel.build.dirty


@pytest.mark.parametrize(("version", "dirty"), [("0.5.4", True), ("0.5.4+dirty", False)])
def test_a_version_without_dirty(
    make: Make, the_matrix: Matrix, repo: Path, version: str, dirty: bool
) -> None:
    sample = make("cu121").of(dirty=dirty)
    sample.version = version
    refuse(sample.write(), the_matrix, repo, "`dirty` in the version just if the tree was")


@pytest.mark.parametrize(
    ("variant", "version", "words"),
    [
        ("cu118", "0.5.4", "a local version with cu118"),
        ("cu121", "0.5.4+cu118", "no variant in it, since build.json says cu121"),
        ("cu118", "0.5.5.dev1+gabc", "a local version with cu118"),
    ],
)
def test_a_version_of_another_variant(
    make: Make, the_matrix: Matrix, repo: Path, variant: str, version: str, words: str
) -> None:
    sample = make(variant)
    sample.version = version
    refuse(sample.write(), the_matrix, repo, words, f"found {version}")


@pytest.mark.parametrize("torch", ["", ">=2.1,<2.8", ">=2.1\nRequires-Dist: torch<3"])
def test_another_torch_range(make: Make, the_matrix: Matrix, repo: Path, torch: str) -> None:
    sample = make("cu121")
    sample.torch = torch
    refuse(
        sample.write(), the_matrix, repo, f"{INFO}/METADATA: expected one requirement torch>=2.1"
    )


def test_another_python_range(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.python = ">=3.9"
    refuse(sample.write(), the_matrix, repo, "Requires-Python: >=3.8", "Requires-Python: >=3.9")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cuda": "11.8"}, "build.json: expected cuda 12.1, found cuda 11.8"),
        ({"native_digest": None}, "build.json: expected a native_digest, found null"),
    ],
)
def test_another_build_record(
    make: Make, the_matrix: Matrix, repo: Path, change: dict[str, object], words: str
) -> None:
    refuse(make("cu121").of(**change).write(), the_matrix, repo, words)


def test_an_unknown_variant(make: Make, the_matrix: Matrix, repo: Path) -> None:
    with pytest.raises(MatrixError, match="unknown variant 'cu999'"):
        audit(make("cu121").of(variant="cu999").write(), the_matrix, repo)


@pytest.mark.parametrize("tag", ["cp37-abi3-manylinux1_x86_64", "cp313-cp313-manylinux1_x86_64"])
def test_a_tag_that_is_not_shipped(make: Make, the_matrix: Matrix, repo: Path, tag: str) -> None:
    sample = make("cu121")
    sample.tag = tag
    refuse(sample.write(), the_matrix, repo, "expected one tag of cp310-cp310", f"found {tag}")


@pytest.mark.parametrize("variant", ["cu118", "cu121"])
def test_real_cubins_say_their_arch(the_matrix: Matrix, variant: str) -> None:
    for arch in the_matrix.variant(variant).archs("x86_64"):
        expected = "sm_" + arch.replace(".", "")
        assert cubin_arch(device_code(variant, arch, "cubin")) == expected


@pytest.mark.parametrize(
    ("name", "arch", "found"), [(SM_80, "8.6", "sm_86"), (SM_90A, "9.0", "sm_90")]
)
def test_a_cubin_in_the_wrong_folder(
    make: Make, the_matrix: Matrix, repo: Path, name: str, arch: str, found: str
) -> None:
    sample = make("cu121")
    sample.members[name] = device_code("cu121", arch, "cubin")
    refuse(
        sample.write(), the_matrix, repo, f"{name}: expected an ELF header for", f"found {found}"
    )


@pytest.mark.parametrize("data", [b"", b"not ELF", b"\x7fELF"])
def test_a_file_that_is_not_a_cubin(
    make: Make, the_matrix: Matrix, repo: Path, data: bytes
) -> None:
    sample = make("cu121")
    sample.members[SM_80] = data
    refuse(sample.write(), the_matrix, repo, f"{SM_80}: expected a cubin for sm_80, found not ELF")


def test_a_host_library_is_not_a_cubin(library: bytes) -> None:
    with pytest.raises(ValueError, match="machine EM_X86_64"):
        cubin_arch(library)


def test_debug_data_in_a_cubin(make: Make, the_matrix: Matrix, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "k.cu").write_text('extern "C" __global__ void k(float* x) { *x = 1; }\n')
    options = ["--gpu-architecture=sm_80", "-lineinfo", "-cubin", "-o", "out", "k.cu"]
    assert nvrtcc("12.1", *options, cwd=tmp_path).returncode == 0
    sample = make("cu121")
    sample.members[SM_80] = (tmp_path / "out").read_bytes()
    refuse(sample.write(), the_matrix, repo, f"{SM_80}: expected no debug data", ".debug_line")


@pytest.mark.parametrize(
    ("data", "found"), [(b".target sm_80\n", "found sm_80"), (b"", "found no .target")]
)
def test_ptx_for_another_arch(
    make: Make, the_matrix: Matrix, repo: Path, data: bytes, found: str
) -> None:
    sample = make("cu121")
    sample.members[PTX] = data
    refuse(sample.write(), the_matrix, repo, f"{PTX}: expected .target sm_90", found)


def test_a_library_that_needs_a_newer_glibc(
    make: Make, the_matrix: Matrix, repo: Path, tmp_path: Path
) -> None:
    source = """
    #define _GNU_SOURCE
    #include <sys/random.h>
    void* PyModule_Create2(void*, int);
    void* PyInit__C(void) { static char s[8]; getrandom(s, 8, 0); return PyModule_Create2(s, 3); }
    """
    sample = make("cu121")
    sample.members["vllm/_C.abi3.so"] = extension(tmp_path, source, "x86_64-linux-gnu.2.28")
    refuse(sample.write(), the_matrix, repo, "expected auditwheel to say manylinux_2_5_x86_64")


def test_a_library_without_a_build_id(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.members["vllm/_C.abi3.so"] = sample.members["vllm/_C.abi3.so"].replace(
        b"GNU\0", b"UNG\0"
    )
    refuse(sample.write(), the_matrix, repo, "vllm/_C.abi3.so", "a build-id")


def test_debug_symbols_of_another_build(
    make: Make, the_matrix: Matrix, repo: Path, library: bytes
) -> None:
    path = make("cu121").write()
    build_id = str(symbols.build_id(library))
    other, debug = with_symbols('extern "C" int other() { return 1; }')
    symbols.place(debug, build_id, path.parent)
    refuse(path, the_matrix, repo, symbols.name_of(build_id), str(symbols.build_id(other)))


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("PyObject_Vectorcall", "expected the limited API of 3.8, found 3.12"),
        ("_PyUnicode_AsString", "expected the limited API alone, found also _PyUnicode_AsString"),
    ],
)
def test_a_library_beyond_the_limited_api(
    make: Make, the_matrix: Matrix, repo: Path, tmp_path: Path, symbol: str, words: str
) -> None:
    source = f"""
    #include <stdlib.h>
    void* {symbol}(void*, void*, size_t, void*);
    void* PyInit__C(void) {{ return {symbol}(malloc(8), 0, 0, 0); }}
    """
    sample = make("cu121")
    sample.members["vllm/_C.abi3.so"] = extension(tmp_path, source)
    refuse(sample.write(), the_matrix, repo, words)


def test_a_wheel_above_its_budget(make: Make, the_matrix: Matrix, repo: Path) -> None:
    path = make("cu121").write()
    small = tuple(replace(cuda, budgets={"x86_64": 100}) for cuda in the_matrix.cudas)
    words = ["expected at most 100 bytes", f"found {path.stat().st_size} bytes"]
    refuse(path, replace(the_matrix, cudas=small), repo, *words)


def test_all_findings_are_reported_at_once(make: Make, the_matrix: Matrix, repo: Path) -> None:
    sample = make("cu121")
    sample.python = ">=3.9"
    del sample.members[SM_80]
    with pytest.raises(AuditError) as caught:
        audit(sample.write(), the_matrix, repo)
    assert len(caught.value.findings) == 2
