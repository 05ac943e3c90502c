"""The native digest: each kind of input changes it, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci import digest
from ci.digest import DigestError, native_digest
from ci.matrix import Cuda, Matrix, Pin, Toolkit

ROOT = Path(__file__).parents[2]
INPUTS = [*digest.TREES, *digest.FILES, digest.REQUIREMENTS, "pyproject.toml"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's own native inputs, copied."""
    root = tmp_path_factory.mktemp("tree")
    for name in INPUTS:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return root


@pytest.fixture
def tree(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "tree")


def append(name: str, text: str = "\n") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + text)

    return change


def substitute(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    "change",
    [
        append("csrc/kernels/norm/rms_norm.cu"),
        append("csrc/kernels/norm/new.cuh"),
        append("csrc/cpu/x86_64/isa_avx2.cpp"),
        append("csrc/runtime/tensor.h"),
        append("csrc/bindings.cpp"),
        append("cmake/add_host_library.cmake"),
        append("cmake/zig-toolchain.cmake"),
        append("cmake/nvrtcc.py"),
        append("cmake/exports.map"),
        append("CMakeLists.txt"),
        append("backend/hooks.py"),
        append("ci/native.py"),
        append("ci/builder/canonical.py"),
        substitute("requirements/ci.txt", "ziglang==", "ziglang==9"),
        substitute("requirements/ci.txt", "\ncmake==", "\ncmake==9"),
        substitute("requirements/ci.txt", "scikit-build-core==", "scikit-build-core==9"),
        substitute("pyproject.toml", 'build-type = "Release"', 'build-type = "Debug"'),
        lambda root: (root / "csrc/bindings.cpp").rename(root / "csrc/renamed.cpp"),
    ],
)
def test_every_kind_of_file_counts(
    tree: Path, the_matrix: Matrix, change: Callable[[Path], None]
) -> None:
    before = native_digest(tree, the_matrix, the_matrix.default)
    change(tree)
    assert native_digest(tree, the_matrix, the_matrix.default) != before


def of_code(cuda: Cuda, **changes: Any) -> Cuda:
    """A variant whose first compiler or list is another."""
    return replace(cuda, code=(replace(cuda.code[0], **changes), *cuda.code[1:]))


@pytest.mark.parametrize(
    "other",
    [
        lambda cuda: replace(cuda, version="12.4"),
        lambda cuda: replace(cuda, code=cuda.code[1:]),
        lambda cuda: of_code(cuda, archs=("7.0",)),
        lambda cuda: of_code(cuda, ptx=("8.0",)),
        lambda cuda: of_code(cuda, toolkit=Toolkit("12.1", (Pin("x", "1", "0"),))),
        lambda cuda: of_code(
            cuda,
            toolkit=Toolkit("12.1", (replace(cuda.toolkits[0].pins[0], sha256="0"),)),
        ),
    ],
    ids=["version", "a compiler", "archs", "ptx", "another pin", "another hash"],
)
def test_what_the_matrix_says_of_a_cuda_counts(
    tree: Path, the_matrix: Matrix, other: Callable[[Cuda], Cuda]
) -> None:
    cuda = the_matrix.default
    assert native_digest(tree, the_matrix, cuda) != native_digest(tree, the_matrix, other(cuda))


def test_the_target_counts(tree: Path, the_matrix: Matrix) -> None:
    newer = replace(
        the_matrix, platforms=(replace(the_matrix.main, zig_target="x86_64-linux-gnu.2.17"),)
    )
    cuda = the_matrix.default
    assert native_digest(tree, the_matrix, cuda) != native_digest(tree, newer, cuda)


@pytest.mark.parametrize(
    "change",
    [
        append("python/vllm/llm.py"),
        append("ci/nightly.py"),
        append("csrc/__pycache__/x.pyc"),
        substitute("pyproject.toml", "An LLM inference library", "A library"),
        substitute("pyproject.toml", "others = [", 'others = ["another", '),
        substitute("requirements/ci.txt", "\nboto3==", "\nboto3==9"),
    ],
)
def test_what_makes_no_native_file_does_not_count(
    tree: Path, the_matrix: Matrix, change: Callable[[Path], None]
) -> None:
    before = native_digest(tree, the_matrix, the_matrix.default)
    change(tree)
    assert native_digest(tree, the_matrix, the_matrix.default) == before


def test_budget_and_torch_range_do_not_count(tree: Path, the_matrix: Matrix) -> None:
    cuda = the_matrix.default
    other = replace(cuda, budgets={"x86_64": 1}, torch=">=9")
    assert native_digest(tree, the_matrix, cuda) == native_digest(tree, the_matrix, other)


def test_the_place_of_the_tree_does_not_count(
    tree: Path, the_matrix: Matrix, tmp_path: Path
) -> None:
    moved = shutil.copytree(tree, tmp_path / "elsewhere" / "entirely")
    cuda = the_matrix.default
    assert native_digest(tree, the_matrix, cuda) == native_digest(moved, the_matrix, cuda)


def test_inputs_name_what_differs(tree: Path, the_matrix: Matrix) -> None:
    before = digest.inputs(tree, the_matrix, the_matrix.default)
    append("csrc/bindings.cpp")(tree)
    after = digest.inputs(tree, the_matrix, the_matrix.default)
    assert {name for name in after if before[name] != after[name]} == {"file csrc/bindings.cpp"}


def test_a_missing_input_is_an_error_and_not_another_digest(tree: Path, the_matrix: Matrix) -> None:
    (tree / "CMakeLists.txt").unlink()
    with pytest.raises(DigestError, match=r"CMakeLists\.txt is not there"):
        native_digest(tree, the_matrix, the_matrix.default)


@pytest.mark.parametrize("name", digest.TREES)
def test_a_folder_without_files_is_an_error(tree: Path, the_matrix: Matrix, name: str) -> None:
    shutil.rmtree(tree / name)
    with pytest.raises(DigestError, match=f"{name} holds nothing"):
        native_digest(tree, the_matrix, the_matrix.default)


def test_an_unpinned_compiler_is_an_error(tree: Path, the_matrix: Matrix) -> None:
    substitute("requirements/ci.txt", "ziglang==", "zig-lang==")(tree)
    with pytest.raises(DigestError, match="does not pin ziglang"):
        native_digest(tree, the_matrix, the_matrix.default)


@pytest.mark.parametrize("name", ["csrc/bindings.cpp", "CMakeLists.txt", "ci/matrix.toml"])
def test_a_file_that_can_decide_on_native_code_is_an_input(name: str) -> None:
    assert digest.is_input(name)
    assert (ROOT / name).is_file()
    assert not digest.is_input(f"docs/{name}")


def test_python_alone_is_no_input() -> None:
    assert not any(map(digest.is_input, ("python/vllm/llm.py", "ci/names.py", "README.md")))
