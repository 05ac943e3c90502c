"""This environment's vllm as wheels of any commit: what an index of the tests can serve."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Dict, List, Optional

from ci import versions
from ci.git import Commit
from ci.matrix import Matrix
from ci.names import abi3_tag
from ci.publish import publish
from ci.store import Store
from ci.wheel import symbols
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from ci.wheel.reader import WheelFile, read
from tests.ci.support.stand_in_symbols import place_symbols
from tests.ci.support.wheels import Factory

_compress = Compressor()  # the library is compressed once for all commits


def installed_wheels(
    folder: Path, commit: Commit, matrix: Matrix, added: Optional[Dict[str, str]] = None
) -> List[WheelFile]:
    """The vllm of this environment, packed again as the wheels of `commit` for this platform.

    added: text that goes to the end of a member.
    """
    import vllm

    known = importlib.metadata.distribution("vllm")
    info = f"vllm-{known.version}.dist-info"
    texts = ("METADATA", "WHEEL", "entry_points.txt")
    members = [Member(f"{info}/{name}", (known.read_text(name) or "").encode()) for name in texts]
    for root in map(Path, vllm.__path__):  # two of them where it is installed to be edited
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                name = f"vllm/{path.relative_to(root)}"
                end = (added or {}).get(name, "").encode()
                members.append(Member(name, path.read_bytes() + end))
    library = next(each.data for each in members if each.name == symbols.LIBRARY)
    wheels = []
    for cuda in matrix.cudas:
        build = BuildInfo(commit.sha, cuda.version, False, None, cuda.variant)
        whole = [*members, Member(f"{info}/build.json", build.render())]
        for version in (
            versions.public(matrix.version, cuda.local),
            versions.development(matrix.version, commit.number, commit.sha, cuda.local),
        ):
            name, data = repack(
                whole,
                version=version,
                tag=abi3_tag(matrix, matrix.main),
                timestamp=commit.time,
                compress=_compress,
            )
            (folder / name).write_bytes(data)
            place_symbols(folder / name, library)
            wheels.append(read(folder / name))
    return wheels


def publish_installed(
    store: Store,
    folder: Path,
    commit: Commit,
    factory: Factory,
    added: Optional[Dict[str, str]] = None,
) -> None:
    """Publishes `installed_wheels` of a commit, with made-up ones for other platforms."""
    real = installed_wheels(folder, commit, factory.matrix, added)
    names = {wheel.path.name for wheel in real}
    others = [wheel for wheel in factory.wheels(commit) if wheel.path.name not in names]
    publish(store, [*real, *others], commit, factory.matrix)
