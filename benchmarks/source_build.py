"""How long a source build takes: cold, by a warm ccache in another folder, and unchanged.

    python benchmarks/source_build.py [--cuda 12.1]

By default this machine's nvcc compiles; with ``--cuda``, the NVRTC of a CUDA of ci/matrix.toml
does. Builds for every architecture that the compiler supports, by the hook that pip calls, in
copies of this tree. Each figure is compared with the cold build of the same run. CPU seconds are
given in addition to wall-clock seconds, which other load increases.

Then, in the built tree: the units that ninja compiles after a change in one file, and the maximum
number of parallel commands with MAX_JOBS=1 and 2, from ninja's log. Written to source_build.json in
this folder, under the compiler's name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent
HOOK = """\
import sys
sys.path.insert(0, 'backend/pep517')
import vllm_backend
print(vllm_backend.build_wheel('dist'))
"""


def copy_tree(target: Path, toolkit: Optional[Path]) -> Path:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run([*command, "--exclude-standard"], check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    if toolkit is not None:
        link = target / "build" / "toolkit" / f"{toolkit.name}-environment"
        link.parent.mkdir(parents=True)
        link.symlink_to(toolkit)
    return target


def build(tree: Path, environ: dict[str, str], **more: str) -> dict[str, Any]:
    """Seconds, compiled units, and ccache hits."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HOOK],
        cwd=tree,
        env={**environ, **more},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    hits = re.search(r"(\d+) of (\d+) compilations were hits", done.stdout)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": round(time.monotonic() - began, 1),
        "processor_s": round(processors, 1),
        "units": len(re.findall(r"\] Building ", done.stdout)),
        "ccache": f"{hits[1]} of {hits[2]}" if hits else "nothing compiled",
    }


def units_after(tree: Path, environ: dict[str, str], changed: str) -> int:
    with (tree / changed).open("a") as file:
        file.write("\n")
    done = subprocess.run(
        ["ninja"],
        cwd=tree / "build" / "development",
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return len(re.findall(r"\] Building ", done.stdout))


def most_at_once(tree: Path) -> int:
    log = (tree / "build" / "development" / ".ninja_log").read_text().splitlines()[1:]
    lines = [line.split("\t") for line in log]  # one for each output of a command
    runs = {(int(start), int(end), command) for start, end, _, _, command in lines}
    return max(sum(start <= moment < end for start, end, _ in runs) for moment, _, _ in runs)


def measure(folder: Path, toolkit: Optional[Path], cuda: Optional[str]) -> dict[str, Any]:
    environ = {**os.environ, "CCACHE_DIR": str(folder / "ccache"), "TORCH_CUDA_ARCH_LIST": "All"}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    if cuda is not None:
        environ["VLLM_CUDA_VERSION"] = cuda
    first = copy_tree(folder / "first", toolkit)
    found: dict[str, Any] = {"cold": build(first, environ, MAX_JOBS="2")}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    found["largest process, MiB"] = round(peak / 1024)
    found["most at once, MAX_JOBS=2"] = most_at_once(first)
    second = copy_tree(folder / "second", toolkit)
    found["another folder, warm ccache"] = build(second, environ)
    found["nothing changed"] = build(second, environ)
    for name in (
        "csrc/kernels/norm/rms_norm.cu",
        "csrc/kernels/common/reduce.cuh",
        "python/vllm/llm.py",
    ):
        found[f"units after a change of {name}"] = units_after(second, environ, name)
    third = copy_tree(folder / "third", toolkit)
    found["MAX_JOBS=1, warm ccache"] = build(third, environ, MAX_JOBS="1")
    found["most at once, MAX_JOBS=1"] = most_at_once(third)
    cold = found["cold"]["wall_s"]
    for name in ("another folder, warm ccache", "nothing changed"):
        found[name]["times faster than cold"] = round(cold / found[name]["wall_s"], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuda", help="compile with NVRTC of this CUDA, as 12.1")
    cuda = parser.parse_args().cuda
    toolkit = None
    if cuda is not None:
        sys.path.insert(0, str(ROOT))
        from tests.ci.support.toolchain import toolkit_folder

        toolkit = toolkit_folder(cuda)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), toolkit, cuda)
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    found["commit"] = subprocess.run(
        head, capture_output=True, text=True, check=True
    ).stdout.strip()
    found["machine"] = f"{os.cpu_count()} processors, load {os.getloadavg()[1]:.1f} beside"
    path = Path(__file__).with_suffix(".json")
    results = json.loads(path.read_text()) if path.exists() else {}
    results["nvcc" if cuda is None else f"NVRTC {cuda}"] = found
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
