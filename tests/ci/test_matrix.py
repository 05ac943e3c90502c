"""The matrix: what it holds, what it refuses, and the copies of it that files cannot avoid."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from ci import matrix, toml
from ci.matrix import Matrix, MatrixError

ROOT = Path(__file__).parents[2]
TABLE = toml.read(matrix.DEFAULT_PATH)
PYPROJECT = toml.read(ROOT / "pyproject.toml")


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The shipped table with one value replaced."""
    table: Any = copy.deepcopy(TABLE)
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return dict(table)


def test_the_shipped_variants(the_matrix: Matrix) -> None:
    assert [(cuda.variant, cuda.local) for cuda in the_matrix.of_commit().cudas] == [
        ("cu118", "cu118"),
        ("cu121", None),
    ]
    on_request = [cuda for cuda in the_matrix.cudas if cuda.on_request]
    assert [cuda.variant for cuda in on_request] == ["cu128", "cu129", "cu130"]
    for cuda in on_request:
        assert cuda.local == cuda.variant
        assert [toolkit.version for toolkit in cuda.toolkits] == [cuda.version]
    assert the_matrix.default.version == "12.1"
    assert the_matrix.variant("cu118").version == "11.8"


def test_every_variant_has_code_for_each_promised_gpu(the_matrix: Matrix) -> None:
    """Design, "Contracts": 7.0 to 9.0, from CUDA 12 on 9.0a too, the default to 12.1; PTX."""
    always = ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0")
    assert the_matrix.variant("cu118").archs("x86_64") == always
    assert the_matrix.default.archs("x86_64") == (*always, "9.0a", "10.0", "12.0")
    for name in ("cu128", "cu129"):
        assert the_matrix.variant(name).archs("x86_64") == the_matrix.default.archs("x86_64")
    # CUDA 13 compiles for no 7.0, and 12.x calls Thor (11.0) by another number.
    assert the_matrix.variant("cu130").archs("x86_64") == (*always[1:], "9.0a", "10.0", "12.0")
    for name, thor in (("cu128", ()), ("cu129", ()), ("cu130", ("11.0",))):
        archs = the_matrix.variant(name).archs("aarch64")
        assert archs == ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "9.0a", "10.0", *thor, "12.0")
    for cuda in the_matrix.cudas:
        assert cuda.ptx("x86_64") == ("9.0",)


def test_each_variant_asks_for_a_torch_that_there_are_builds_of(the_matrix: Matrix) -> None:
    """The first and the last that PyTorch's index has for each CUDA, and their neighbours."""
    taken = {
        "cu118": ("2.1.0", "2.7.1", "2.8.0"),
        "cu121": ("2.1.0", "2.14.0", "2.0.1"),
        "cu128": ("2.7.0", "2.11.0", "2.6.0", "2.12.0"),
        "cu129": ("2.8.0", "2.13.0", "2.7.1", "2.14.0"),
        "cu130": ("2.9.0", "2.14.0", "2.8.0"),
    }
    assert taken.keys() == {cuda.variant for cuda in the_matrix.cudas}
    for name, (first, last, *others) in taken.items():
        torch = SpecifierSet(the_matrix.variant(name).torch)
        assert first in torch
        assert last in torch
        assert not [other for other in others if other in torch]


def test_a_commit_has_variants_on_request_where_they_are_named(the_matrix: Matrix) -> None:
    def of_commit(*also: str) -> list[str]:
        return [cuda.variant for cuda in the_matrix.of_commit(also).cudas]

    assert of_commit() == ["cu118", "cu121"]
    assert of_commit("cu130", "cu128", "cu128") == ["cu118", "cu121", "cu128", "cu130"]
    assert of_commit("cu118") == ["cu118", "cu121"]
    with pytest.raises(MatrixError, match="unknown variant 'cu999'"):
        of_commit("cu128", "cu999")


def test_each_arch_has_the_compiler_that_the_design_says(the_matrix: Matrix) -> None:
    """D9: 12.1 as ever for what it knows, PTX by the oldest, 12.9 for Blackwell."""
    compilers = {
        arch: code.toolkit.version for code in the_matrix.default.code for arch in code.archs
    }
    assert {compilers[arch] for arch in ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "9.0a")} == {
        "12.1"
    }
    assert (compilers["10.0"], compilers["12.0"]) == ("12.9", "12.9")
    (ptx,) = (code for code in the_matrix.default.code if code.ptx)
    assert ptx.toolkit.version == "12.1"
    assert {code.toolkit.version for code in the_matrix.variant("cu118").code} == {"11.8"}


def test_an_unknown_variant_lists_the_known(the_matrix: Matrix) -> None:
    known = ", ".join(cuda.variant for cuda in the_matrix.cudas)
    with pytest.raises(MatrixError, match=f"use one of: {known}$"):
        the_matrix.variant("cu999")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed("cuda", 1, "default", to=False), r"exactly one .* found: \[\]"),
        (changed("cuda", 0, "default", to=True), r"found: \['11.8', '12.1'\]"),
        (changed("cuda", 1, "on_request", to=True), "12.1 is the default and on request"),
        (changed("cuda", 0, "version", to="12.1"), "two .* have the same version"),
        (changed("cuda", 0, "torch", to="2.1"), "Invalid specifier"),
        (changed("cuda", 0, "code", 0, "compiler", to="9.9"), "which has no table"),
        (changed("cuda", 1, "code", 1, "archs", to=["9.0"]), r"two compilers for \['9.0'\]"),
        (changed("cuda", 1, "code", 1, "ptx", to=["9.0"]), r"two compilers for \['9.0'\]"),
        (changed("cuda", 1, "code", 1, "archs", to=["sm_103"]), r"has \['sm_103'\] for arch"),
        (changed("cuda", 1, "code", 1, "archs", to=["103"]), r"has \['103'\] for arch"),
        (changed("cuda", 1, "code", 1, "archs", to=[10.3]), r"has \[10.3\] for arch"),
        (changed("cuda", 1, "code", 1, "archs", to="10.3"), "has '10.3' for arch"),
        (changed("cuda", 1, "code", 1, "ptx", to="9.0"), "has '9.0' for arch"),
        (changed("cuda", 1, "code", 1, "arch", to=["10.3"]), "`code` has arch"),
        (changed("cuda", 0, "code", to=[]), "11.8, x86_64: no architecture has code"),
        (changed("cuda", 1, "code", 1, "only", to="riscv64"), "is for aarch64, riscv64, x86_64"),
        (changed("cuda", 1, "budget_mib", to={"s390x": 1}), "is for aarch64, s390x"),
        (changed("release", "version", to="0.5.x"), "Invalid version"),
        (changed("release", "version", to="0.5.04"), "'v0.5.4' is not the tag of"),
        (changed("release", "tag", to="v0.5.5"), "'v0.5.5' is not the tag of version '0.5.4'"),
    ],
)
def test_contradictions_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        matrix.parse(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [("not toml", "restore the file"), ("", "missing or misplaced key: 'platform'")],
)
def test_an_unreadable_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text(text)
    with pytest.raises(MatrixError, match=message) as caught:
        matrix.load(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"No such file"):
        matrix.load(tmp_path / "matrix.toml")


def test_pyproject_agrees_with_the_matrix(the_matrix: Matrix) -> None:
    """The copies that a static file cannot avoid."""
    assert PYPROJECT["project"]["requires-python"] == f">={the_matrix.abi3}"
    assert PYPROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == "cp38"
    assert the_matrix.abi3 == min(the_matrix.pythons, key=lambda v: [*map(int, v.split("."))])


def test_one_wheel_is_tried_with_old_and_new_torches(the_matrix: Matrix) -> None:
    versions = [trial.version for trial in the_matrix.torch_trials]
    assert {"2.1.2", "2.4.1", "2.13.0"} <= set(versions)
    for version in versions:
        assert SpecifierSet(the_matrix.default.torch).contains(version)
