"""Sizes of a commit's wheels, as built by `make nightly`, and of the code for each architecture.

    python -m benchmarks.wheel_sizes [FOLDER]

FOLDER is wheelhouse/ unless given. What each wheel takes, and in it the machine code or PTX of each
architecture with the CUDA of its compiler, is written by variant and processor to wheel_sizes.json
in this folder, with the commit of the variant's wheels. Variants that are not in FOLDER stay as
they are there: few commits have those on request.
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
from ci.wheel.reader import WheelFile

PARTS = ("commits", "bytes", "code")  # of the record, each by variant


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


def measure(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """`record` with each variant that has wheels in `folder` replaced.

    Raises ValueError if wheels of a variant are of several commits.
    """
    known = matrix.load()
    by_variant: dict[str, list[WheelFile]] = {}
    for path in sorted(folder.glob(f"vllm-{known.version}*-abi3-*.whl")):
        wheel = reader.read(path)
        by_variant.setdefault(wheel.build.variant, []).append(wheel)
    made: dict[str, dict[str, Any]] = {name: dict(record[name]) for name in PARTS}
    for variant, wheels in by_variant.items():
        commits = {wheel.build.commit for wheel in wheels}
        if len(commits) != 1:
            raise ValueError(
                f"{folder} has wheels of {variant} of {len(commits)} commits; they must be of one: "
                "make nightly"
            )
        (made["commits"][variant],) = commits
        cuda = known.variant(variant)
        made["bytes"][variant] = {_processor(wheel): wheel.size for wheel in wheels}
        made["code"][variant] = {
            _processor(wheel): code_sizes(wheel.path, cuda) for wheel in wheels
        }
    return {name: dict(sorted(part.items())) for name, part in made.items()}


def _processor(wheel: WheelFile) -> str:
    return "aarch64" if wheel.path.stem.endswith("aarch64") else "x86_64"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "wheelhouse")
    path = Path(__file__).with_suffix(".json")
    record = measure(folder, json.loads(path.read_text(encoding="utf-8")))
    text = json.dumps(record, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
