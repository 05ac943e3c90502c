"""How long does it take to find the first bad one of ten commits of this repository?

    python -m benchmarks.bisect_commits --bucket FOLDER

Builds and publishes ten real commits that are missing in the bucket, for one architecture only:
more would not change the result. Then runs the published script to find the commit since which
`stream_options` does not accept 0.0 as false. Writes ``bisect_commits.json`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ci import builder, git, matrix, scratch
from ci.builder.reused import StoreWheels
from ci.publish import publish
from ci.reuse import Reuse
from ci.serve import running
from ci.store import FolderStore
from ci.wheel.reader import read

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_suffix(".json")
LAST, COUNT = "4786d81eb5a888ebbdb9ef47060a535cf889acf3", 10
JUDGE = """
from vllm.entrypoints.openai.protocol.chat import ChatRequest
body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
ChatRequest.model_validate({**body, "stream_options": {"include_usage": 0.0}})
"""


def fill(store: FolderStore, commits: list[str]) -> None:
    """Publishes the commits, oldest first."""
    for sha in commits:
        if any(store.list(f"{sha}/manifest.json")):
            continue
        with scratch.folder("vllm-bisect-") as folder:
            clone = folder / "clone"
            git.clone(ROOT, clone, sha)
            commit = git.read(clone)
            path = clone / "ci/matrix.toml"
            few = re.sub(r"(?m)^archs = .*", 'archs = ["8.0"]', path.read_text())
            path.write_text(re.sub(r"(?m)^ptx = .*", 'ptx = ["8.0"]', few))
            reuse = Reuse(StoreWheels(store))
            paths = builder.build(clone, clone / "wheelhouse", commit=commit, reuse=reuse)
            known = matrix.load(path).of_commit()
            wheels = [read(path) for path in paths]
            publish(store, wheels, commit, known, reused_from=reuse.used, report=print)


def search(base: str, commits: list[str], python: str) -> tuple[dict[str, Any], float, str]:
    """The result of the script, its seconds, and its output."""
    script = f"{base}/{commits[-1]}/bisect.py"
    ends = ["--good", commits[0], "--bad", commits[-1], "--python", python, "--restart", "--json"]
    command = ["uv", "run", "--quiet", script, *ends, "--", "python", "-c", JUDGE]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.perf_counter()
    env = {**os.environ, "PATH": path}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - started, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bucket", type=Path, required=True)
    parser.add_argument("--last", default=LAST, help="the newest of the commits")
    parser.add_argument("--python", default=sys.executable, help="of an environment with pydantic")
    args = parser.parse_args()
    line = git.ask(ROOT, "rev-list", "--first-parent", f"--max-count={COUNT}", args.last).split()
    commits = line[::-1]
    store = FolderStore(args.bucket.resolve())
    fill(store, commits)
    with running(store) as base:
        found, seconds, said = search(base, commits, args.python)
    print(said)
    (first_bad,) = found["candidates"]
    result = {
        "machine": f"{os.cpu_count()} cores, shared with other work",
        "commits": len(commits),
        "first": commits[0],
        "last": commits[-1],
        "first_bad": first_bad["commit"],
        "subject": first_bad["change"]["subject"],
        "tried": found["tried"],
        "seconds": round(seconds, 1),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
