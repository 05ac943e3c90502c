"""From the start of Python to the first token on a GPU, part by part.

    python benchmarks/cuda_load.py [--json FILE] [--models 0.6B 8B] [--folder /dev/shm]

Weights are in the page cache, because they were just written. Each model is loaded several times,
each time by a new process; the figures are those of the run with the least sum. "empty model"
includes the initialisation of CUDA; "largest step" is the first step, computed to size the KV
cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

from conditions import commit, machine
from random_model import write_equal_layers

RUN = """
import json, sys, time
seconds, started = {}, time.perf_counter()
def end(name):
    global started
    now = time.perf_counter()
    seconds[name], started = now - started, now
import torch
end("import torch")
from vllm import LLM, SamplingParams
end("import vllm")
llm = LLM(sys.argv[1], skip_tokenizer_init=True, max_model_len=8448)
end("LLM")
parts = llm.engine.executor.load_seconds
seconds.update(parts, others=seconds.pop("LLM") - sum(parts.values()))
llm.generate([list(range(128))], SamplingParams(max_tokens=1))
end("first token")
print(json.dumps(seconds))
"""


def load(folder: Path) -> Dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds: Dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: round(value, 3) for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="From the start of Python to the first token")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--models", nargs="+", default=["0.6B", "8B"])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="for the weights")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    models: Dict[str, Any] = {}
    for name in arguments.models:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            nbytes = write_equal_layers(name, folder)
            runs = [load(folder) for _ in range(arguments.repeats)]
        finally:
            shutil.rmtree(folder)
        best = min(runs, key=lambda run: sum(run.values()))
        models[name] = {
            "bytes": nbytes,
            "seconds": best,
            "sum": round(sum(best.values()), 3),
            "weights_gb_per_s": round(nbytes / best["weights"] / 1e9, 1),
        }
        print(name, models[name], flush=True)
    if arguments.json:
        result = {"commit": commit(), "machine": machine(), "models": models}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
