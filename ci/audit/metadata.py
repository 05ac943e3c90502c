"""Does METADATA agree with the matrix? (The reader has compared it with the file name.)"""

from __future__ import annotations

from collections.abc import Iterator

from packaging.metadata import ExceptionGroup, Metadata
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ci.audit.findings import Finding
from ci.audit.tree import Tree
from ci.matrix import Cuda, Matrix, Platform
from ci.names import release_tags
from ci.wheel.reader import WheelFile


def check(
    wheel: WheelFile, matrix: Matrix, cuda: Cuda, platform: Platform, tree: Tree
) -> Iterator[Finding]:
    """Compares version, Python range, torch range, tags and build record with the matrix.

    License expression and files (PEP 639) are compared with the sources.
    """
    member = f"{wheel.name}-{wheel.version}.dist-info/METADATA"
    try:  # as PyPI reads it
        metadata = Metadata.from_email(wheel.metadata)
    except ExceptionGroup as error:
        for problem in error.exceptions:
            yield Finding(member, "metadata by the core specification", str(problem))
        return
    torch = [one for one in metadata.requires_dist or () if one.name == "torch"]
    if [requirement.specifier for requirement in torch] != [SpecifierSet(cuda.torch)]:
        found = ", ".join(map(str, torch)) or "none"
        yield Finding(member, f"one requirement torch{cuda.torch}", found)

    if metadata.license_expression != tree.expression:
        expected = f"License-Expression: {tree.expression}"
        yield Finding(member, expected, str(metadata.license_expression))
    files = sorted(metadata.license_files or ())
    if files != sorted(tree.licenses):
        expected = f"License-File: {', '.join(sorted(tree.licenses))}"
        yield Finding(member, expected, ", ".join(files) or "none")

    python = f">={matrix.abi3}"
    if wheel.requires_python != python:
        found = str(wheel.requires_python)
        yield Finding(member, f"Requires-Python: {python}", f"Requires-Python: {found}")

    local = (Version(wheel.version).local or "").split(".")
    others = {other.variant for other in matrix.cudas} - {cuda.local}
    if (cuda.local is not None and cuda.local not in local) or others & set(local):
        expected = f"a local version with {cuda.local}" if cuda.local else "no variant in it"
        yield Finding(member, f"{expected}, since build.json says {cuda.variant}", wheel.version)
    if wheel.build.dirty != ("dirty" in local):
        yield Finding(
            member, "`dirty` in the version just if the tree was", f"Version: {wheel.version}"
        )

    member = f"{wheel.name}-{wheel.version}.dist-info/build.json"
    if wheel.build.cuda != cuda.version:
        yield Finding(member, f"cuda {cuda.version}", f"cuda {wheel.build.cuda}")
    for key in ("commit", "native_digest"):
        if getattr(wheel.build, key) is None:
            yield Finding(member, f"a {key}", "null")

    tags = release_tags(matrix, platform)
    if len(wheel.tags) != 1 or wheel.tags[0] not in tags:
        yield Finding("", f"one tag of {', '.join(sorted(tags))}", ", ".join(wheel.tags))
