"""Compiles build/test-ptx/<variant>/<arch>/<arch>/*.ptx: the device code of old architectures in a
form that a newer GPU can run. tests/gpu/test_loading.py runs the op tests on each.

    python tests/gpu/make_ptx.py     needs no GPU; fetches the pinned NVRTC if it must
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from ci import matrix  # noqa: E402
from ci.builder import toolkit  # noqa: E402

ARCHS = ("compute_70", "compute_75", "compute_80", "compute_90")


def main() -> None:
    known = matrix.load()
    # The oldest compiler of each variant that every commit has is the one that makes its PTX.
    oldest = {cuda.variant: cuda.toolkits[0] for cuda in known.of_commit().cudas}
    folders = toolkit.fetch(oldest.values(), ROOT / "build" / "toolkit", Console())
    for variant, compiler in oldest.items():
        folder = folders[compiler.version]
        for arch in ARCHS:
            # A folder with one architecture: nothing else can be chosen from it.
            target = ROOT / "build" / "test-ptx" / variant / arch / arch
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted((ROOT / "csrc" / "kernels").rglob("*.cu")):
                output = target / f"{source.stem}.ptx"
                command = [sys.executable, str(ROOT / "cmake" / "nvrtcc.py"), f"--toolkit={folder}"]
                command += [f"--gpu-architecture={arch}", "-ptx", "-std=c++17", "-default-device"]
                command += [f"-I{ROOT / 'csrc'}", "-o", str(output), str(source)]
                subprocess.run(command, check=True)
                print(output.relative_to(ROOT))


if __name__ == "__main__":
    main()
