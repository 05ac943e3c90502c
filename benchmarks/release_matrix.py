"""How long does the whole matrix take, relative to the two canonical builds that it is packed from?

    python -m benchmarks.release_matrix

In a fresh clone of HEAD, where only pip's downloads are cached: builds every wheel that a release
has of the variants of each commit, the `.devN` wheels and the sdist from one build. The processor
time of each stage is taken, and that of all is given relative to fetching and compiling alone in
the same run. Then a commit that changed only Python, in a clone that reuses the native files of the
first. Each wheel for one Python is installed on that Python, and its version is checked. Writes
``release_matrix.json`` in this folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from ci import builder, git, interpreters, matrix, names, release
from ci.audit import audit_all
from ci.builder import Label
from ci.builder.reused import StoreWheels
from ci.git import Commit
from ci.matrix import Cuda, Matrix, Platform
from ci.publish import publish
from ci.reuse import Reuse
from ci.stages import Stages
from ci.store import FolderStore
from ci.wheel.reader import WheelFile, read

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_suffix(".json")
CANONICAL = ("fetch", "canonical wheels")  # the stages that every wheel needs
COMMIT = ["git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-q", "-a"]
ASK = "import vllm; print(vllm.__version__, vllm.__commit__)"


class ProcessorStages(Stages):
    """Counts the processor time of stages, which other work of the machine changes least."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = processor_seconds()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + processor_seconds() - start


def whole_matrix(repo: Path, out: Path, known: Matrix, console: Console) -> dict[str, Any]:
    """Everything of a release and of a commit, from nothing; times, ratio and what was made."""
    start, stages, commit = time.monotonic(), ProcessorStages(console), git.read(repo)
    paths = builder.build(
        repo,
        out,
        commit=commit,
        labels=every_label(known, commit),
        console=console,
        stages=stages,
    )
    with stages.timed("audit"):
        reports = audit_all(paths, known, repo)
    development = f".dev{commit.number}+"
    released = [path for path in paths if development not in path.name]
    release.finish(
        repo, out, known.version, released, commit=commit, key=None, console=console, stages=stages
    )
    canonical = sum(stages.seconds[name] for name in CANONICAL)
    console.print(stages.table())
    return {
        "seconds": round(time.monotonic() - start, 2),
        "processor_seconds": {name: round(seconds, 2) for name, seconds in stages.seconds.items()},
        "canonical_processor_seconds": round(canonical, 2),
        "ratio": round(sum(stages.seconds.values()) / canonical, 3),
        "wheels": {
            r.wheel.path.name: {"bytes": r.wheel.size, "tags": r.wheel.tags} for r in reports
        },
    }


def every_label(known: Matrix, commit: Commit) -> Callable[[Cuda, Platform], list[Label]]:
    """Of a release and of a commit: the abi3 wheel of the documented name is in both."""
    return lambda cuda, platform: [
        *builder.release_labels(known, cuda, platform),
        builder.commit_labels(known, cuda, platform, commit)[1],
    ]


def python_only_commit(repo: Path, bucket: Path, known: Matrix, console: Console) -> dict[str, Any]:
    """The commands of `make nightly` up to the published set, where nothing native changed."""
    first = [read(path) for path in builder.build(repo, repo / "wheelhouse", console=console)]
    store = FolderStore(bucket)
    publish(store, first, git.read(repo), known)
    next_clone = bucket.with_name("next")
    subprocess.run(["git", "clone", "-q", repo, next_clone], check=True)
    with (next_clone / "python" / "vllm" / "__init__.py").open("a") as file:
        file.write("# Another line.\n")
    subprocess.run([*COMMIT, "-m", "change Python only"], cwd=next_clone, check=True)
    stages, commit = ProcessorStages(console), git.read(next_clone)
    reuse = Reuse(StoreWheels(store))
    start, processor = time.monotonic(), processor_seconds()
    paths = builder.build(
        next_clone,
        next_clone / "wheelhouse",
        commit=commit,
        labels=every_label(known, commit),
        reuse=reuse,
        console=console,
        stages=stages,
    )
    return {
        "seconds": round(time.monotonic() - start, 2),
        "processor_seconds": round(processor_seconds() - processor, 2),
        "stages": {name: round(seconds, 2) for name, seconds in stages.seconds.items()},
        "wheels": len(paths),
        "compiled": sorted({cuda.variant for cuda in known.cudas} - reuse.used.keys()),
    }


def processor_seconds() -> float:
    """Of this process and of all that it has waited for."""
    return sum(os.times()[:4])


def installed(out: Path, known: Matrix, commit: Commit, scratch: Path) -> dict[str, str]:
    """Each wheel for one Python, on that Python: what it says, or why it was not asked."""
    said: dict[str, str] = {}
    for python, interpreter in interpreters.find(known.pythons).items():
        tag = names.python_tag(python)
        for path in sorted(out.glob(f"*-{tag}-{tag}-*.whl")):
            if interpreter is None:
                said[path.name] = f"not asked: no python{python} on this machine"
                continue
            site = scratch / path.stem
            pip = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--no-deps"]
            subprocess.run([*pip, "--python", interpreter, "--target", site, path], check=True)
            done = subprocess.run(
                [interpreter, "-c", ASK],
                env={**os.environ, "PYTHONPATH": str(site)},
                cwd=scratch,
                check=True,
                capture_output=True,
                text=True,
            )
            said[path.name] = done.stdout.strip()
            expect(read(path), commit, said[path.name])
    return said


def expect(wheel: WheelFile, commit: Commit, said: str) -> None:
    if said != f"{wheel.version} {commit.sha}":
        raise AssertionError(f"{wheel.path.name} says {said!r}")


def main() -> None:
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="vllm-release-") as temporary:
        scratch = Path(temporary)
        repo, out = scratch / "clone", scratch / "release"
        subprocess.run(["git", "clone", "-q", ROOT, repo], check=True)
        known = matrix.load(repo / "ci" / "matrix.toml").of_commit()
        commit = git.read(repo)
        record: dict[str, Any] = {
            "commit": commit.sha,
            "machine": f"{os.cpu_count()} cores",
            "whole_matrix": whole_matrix(repo, out, known, console),
            "python_only_commit": python_only_commit(repo, scratch / "bucket", known, console),
            "installed": installed(out, known, commit, scratch),
        }
    console.print(f"{record['whole_matrix']['ratio']} × the canonical builds", highlight=False)
    RESULT.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
