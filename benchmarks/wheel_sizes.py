"""Sizes of a commit's wheels, as built by `make nightly`.

    python -m benchmarks.wheel_sizes [FOLDER]

FOLDER is wheelhouse/ unless given. Sizes by variant and processor are written to wheel_sizes.json
in this folder, with the commit of the wheels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ci import matrix
from ci.wheel import reader


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "wheelhouse")
    version = matrix.load().version
    wheels = [reader.read(path) for path in sorted(folder.glob(f"vllm-{version}*-abi3-*.whl"))]
    (commit,) = {wheel.build.commit for wheel in wheels}
    sizes: dict[str, dict[str, int]] = {}
    for wheel in wheels:
        processor = "aarch64" if wheel.path.stem.endswith("aarch64") else "x86_64"
        sizes.setdefault(wheel.build.variant, {})[processor] = wheel.size
    text = json.dumps({"commit": commit, "bytes": sizes}, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
