"""Sizes of a commit's wheels, as built by `make nightly`, and of the code for each architecture.

    python -m benchmarks.wheel_sizes [FOLDER]

FOLDER is wheelhouse/ unless given. What each wheel takes, and in it the machine code or PTX of each
architecture with the CUDA of its compiler, is written by variant and processor to wheel_sizes.json
in this folder, with the commit of the wheels.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from ci import matrix
from ci.matrix import Cuda
from ci.native import arch_digits
from ci.wheel import reader


def compilers(cuda: Cuda) -> dict[str, str]:
    """The folder of an architecture's code → the CUDA of what compiles it."""
    return {
        f"{kind}_{arch_digits(arch)}": code.toolkit.version
        for code in cuda.code
        for kind, archs in (("sm", code.archs), ("compute", code.ptx))
        for arch in archs
    }


def code_sizes(path: Path, cuda: Cuda) -> dict[str, dict[str, Any]]:
    """For each architecture its compiler and what its files take in the wheel."""
    bytes_of: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            folder, _, name = info.filename.rpartition("/")
            if name.endswith((".cubin", ".ptx")):
                arch = folder.rpartition("/")[2]
                bytes_of[arch] = bytes_of.get(arch, 0) + info.compress_size
    made_by = compilers(cuda)
    return {arch: {"compiler": made_by[arch], "bytes": size} for arch, size in bytes_of.items()}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "wheelhouse")
    known = matrix.load()
    wheels = [
        reader.read(path) for path in sorted(folder.glob(f"vllm-{known.version}*-abi3-*.whl"))
    ]
    commits = {wheel.build.commit for wheel in wheels}
    if len(commits) != 1:
        raise SystemExit(
            f"{folder} has wheels of {len(commits)} commits; they must be of one: make nightly"
        )
    (commit,) = commits
    sizes: dict[str, dict[str, int]] = {}
    code: dict[str, dict[str, Any]] = {}
    for wheel in wheels:
        processor = "aarch64" if wheel.path.stem.endswith("aarch64") else "x86_64"
        cuda = known.variant(wheel.build.variant)
        sizes.setdefault(cuda.variant, {})[processor] = wheel.size
        code.setdefault(cuda.variant, {})[processor] = code_sizes(wheel.path, cuda)
    record = {"commit": commit, "bytes": sizes, "code": code}
    text = json.dumps(record, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
