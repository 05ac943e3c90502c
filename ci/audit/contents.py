"""Is every file in the wheel that belongs there, unchanged, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ci.audit.findings import Finding
from ci.audit.tree import Tree
from ci.git import blob_id
from ci.matrix import Cuda, Platform
from ci.names import LIBRARY
from ci.native import code_folders
from ci.wheel import sbom
from ci.wheel.reader import WheelFile

# Files of the package that are not modules. Any other file under python/ fails the audit, so that
# nothing is published by accident.
DATA_FILES = ("py.typed", "/page/index.html", "/page/page.css", "/page/page.js")
# Required in every wheel, whatever the sources say: otherwise an empty set of sources would pass.
LICENSES = ("LICENSE", "NOTICE")


def check(
    wheel: WheelFile, members: Mapping[str, bytes], cuda: Cuda, platform: Platform, tree: Tree
) -> Iterator[Finding]:
    """Compares the members with the tree that the wheel was built from."""
    yield from _check_tree(cuda.archs(platform.processor), tree)
    allowed = expected_members(wheel, cuda, platform, tree)
    for name in sorted(allowed - members.keys()):
        yield Finding(name, "the file", "none")
    for name in sorted(members.keys() - allowed):
        yield Finding(name, "no such file", f"{len(members[name])} bytes")
    dist_info = f"{wheel.name}-{wheel.version}.dist-info"
    licenses = {f"{dist_info}/licenses/{name}": blob for name, blob in tree.licenses.items()}
    for name, blob in sorted({**tree.python, **licenses}.items()):
        if name in members and blob_id(members[name]) != blob:
            yield Finding(
                name, f"git blob {blob}, as in the sources", f"blob {blob_id(members[name])}"
            )


def _check_tree(archs: Sequence[str], tree: Tree) -> Iterator[Finding]:
    """Checks that the sources have modules, kernels and licenses to compare a wheel with."""
    for name in LICENSES:
        if name not in tree.licenses:
            yield Finding(name, "the file among license-files of pyproject.toml", "none")
    parts = {"module under python/": tree.python, "kernel": tree.kernels, "arch": archs}
    for part, found in parts.items():
        if not found:
            yield Finding("", f"at least one {part} in the sources", "none")


def expected_members(wheel: WheelFile, cuda: Cuda, platform: Platform, tree: Tree) -> set[str]:
    """The name of every member that the wheel must have."""
    dist_info = f"{wheel.name}-{wheel.version}.dist-info"
    about = ["METADATA", "WHEEL", "RECORD", "build.json", sbom.NAME]
    about += [f"licenses/{name}" for name in tree.licenses]
    about += ["entry_points.txt"] if tree.has_scripts else []
    modules = {name for name in tree.python if name.endswith((".py", ".pyi", *DATA_FILES))}
    return {
        LIBRARY,
        *modules,
        *(
            name
            for kernel in tree.kernels
            for name in device_members(cuda, platform.processor, kernel)
        ),
        *(f"{dist_info}/{name}" for name in about),
    }


def device_members(cuda: Cuda, processor: str, kernel: str) -> Iterator[str]:
    """The member names of one kernel's device code, for every arch of a variant's wheel."""
    for folder, suffix in code_folders(cuda, processor):
        yield f"vllm/kernels/{cuda.variant}/{folder}/{kernel}.{suffix}"
