"""What a development build compiles, how many at once, and what ccache has of it.

The whole way from the backend to ninja and the real compilers, on a small tree: the real build
files, a host library of one source, and kernels of a few lines.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.cmake.conftest import MakeTree, build, compiled, ninja

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
needs_ccache = pytest.mark.skipif(shutil.which("ccache") is None, reason="no ccache here")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")

# Two cubins and one PTX of each of two kernels, and one host source.
ARCHS, UNITS = "8.0;9.0+PTX", 7


@pytest.fixture(params=["nvrtc", pytest.param("nvcc", marks=needs_nvcc)])
def compiler(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment that leads to a compiler of device code."""
    environ = {"TORCH_CUDA_ARCH_LIST": ARCHS, "CCACHE_DIR": str(tmp_path / "ccache")}
    environ.update(CUDA_HOME="", CCACHE_CONFIGPATH=str(tmp_path / "none"))
    folders = [str(Path(sys.executable).parent)]
    if request.param == "nvcc":
        folders.append(str(Path(str(shutil.which("nvcc"))).parent))
    else:
        environ["VLLM_CUDA_VERSION"] = "12.1"
    environ["PATH"] = ":".join([*folders, "/usr/bin", "/bin"])
    return environ


def test_only_what_includes_a_changed_file_is_compiled_again(
    make_tree: MakeTree, compiler: dict[str, str]
) -> None:
    tree = make_tree()
    assert len(compiled(build(tree, compiler))) == UNITS
    assert compiled(build(tree, compiler)) == []
    scaled = ["compute_90/scaled.ptx", "sm_80/scaled.cubin", "sm_90/scaled.cubin"]
    plain = [name.replace("scaled", "plain") for name in scaled]
    for changed, expected in {
        "csrc/kernels/scale/scaled.cu": scaled,
        "csrc/kernels/common/factor.cuh": scaled,
        "csrc/params/scale.h": sorted([*scaled, *plain, "bindings.cpp.o"]),
        "python/vllm/llm.py": [],
    }.items():
        with (tree / changed).open("a") as file:
            file.write("\n")
        assert compiled(ninja(tree, compiler)) == expected, changed


@needs_ccache
def test_another_folder_hits_on_every_unit(make_tree: MakeTree, compiler: dict[str, str]) -> None:
    first, second = make_tree(), make_tree()
    assert f"0 of {UNITS} compilations were hits" in build(first, compiler)
    assert f"{UNITS} of {UNITS} compilations were hits\n" in build(second, compiler)
    cubins = list((first / "build/development/kernels").rglob("*.cubin"))
    assert len(cubins) == 4
    for path in cubins:
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


@needs_ccache
def test_a_change_that_only_device_code_sees_is_no_hit(
    make_tree: MakeTree, compiler: dict[str, str]
) -> None:
    tree = make_tree()
    build(tree, compiler)
    cubin = tree / "build" / "development" / "kernels"
    before = {path: path.read_bytes() for path in cubin.rglob("scaled.*") if path.suffix != ".d"}
    header = tree / "csrc" / "kernels" / "common" / "factor.cuh"
    header.write_text(header.read_text().replace("2.0f", "5.0f"))
    assert "0 of 3 compilations were hits" in build(tree, compiler)
    changed = {path.parent.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"sm_90", "compute_90"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_max_jobs_bounds_host_and_device_code_together(
    make_tree: MakeTree, compiler: dict[str, str], jobs: int
) -> None:
    tree = make_tree()
    said = build(tree, {**compiler, "MAX_JOBS": str(jobs), "CCACHE_DISABLE": "1"})
    assert f"{jobs} (MAX_JOBS)" in said
    assert len(compiled(said)) == UNITS
    if shutil.which("ccache"):
        assert "switched off by CCACHE_DISABLE" in said
        assert "no compilation used it" in said
    log = tree / "build" / "development" / ".ninja_log"
    assert at_once(log) <= jobs
    # The same of a ninja that somebody starts by hand, or an import does.
    log.unlink()
    (tree / "csrc" / "params" / "scale.h").write_text("struct Params { float* x; int n; };\n")
    assert len(compiled(ninja(tree, {**compiler, "CCACHE_DISABLE": "1"}, "-j8"))) == UNITS
    assert at_once(log) <= jobs


def at_once(log: Path) -> int:
    """The most commands that ran together; ninja notes a line for each output of a command."""
    lines = [line.split("\t") for line in log.read_text().splitlines()[1:]]
    runs = {(int(start), int(end), command) for start, end, _, _, command in lines}
    return max(sum(start <= moment < end for start, end, _ in runs) for moment, _, _ in runs)
