"""A rank with a fault, as the environment says; also the program that has rank 0.

python -m tests.worker.ranks.faulty '{...}'       a rank that `Processes` starts
python -m tests.worker.ranks.faulty MODEL DEVICE BACKEND
                                                  rank 0, which generates until something happens
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from vllm.llm import LLM
from vllm.sampling_params import SamplingParams
from vllm.worker import load
from vllm.worker.model_runner import ModelRunner
from vllm.worker.ranks import serve
from vllm.worker.ranks.processes import Processes

MODULE = "tests.worker.ranks.faulty"
_STEP = 3  # the fault is in the fourth one


def fail(what: str) -> None:
    """What happens to a rank; the time of it is left in a file."""
    Path(os.environ["FAULT_TIME"]).write_text(str(time.monotonic()))
    if what == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "is stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "hangs":
        time.sleep(1000)
    elif what == "raises":
        raise ArithmeticError("an injected error")


def inject(rank: int) -> None:
    """Makes this process fail, if the environment wants that of its rank."""
    wanted_rank, what, when = json.loads(os.environ["FAULT"])
    if wanted_rank != rank:
        return
    owner, name = {
        "while loading": (load, "load_model"),
        "in a step": (ModelRunner, "run"),
    }[when]
    original = getattr(owner, name)
    calls = itertools.count()

    def replaced(*args, **kwargs):
        if when == "while loading" or next(calls) == _STEP:
            fail(what)
        return original(*args, **kwargs)

    setattr(owner, name, replaced)


def generate_for_ever(model: str, device: str, backend: str) -> None:
    torch.set_num_threads(1)
    Processes.module = MODULE
    args = {"skip_tokenizer_init": True, "num_kv_blocks": 256, "tensor_parallel_size": 2}
    llm = LLM(model, device=device, distributed_executor_backend=backend, **args)
    print(json.dumps(llm.engine.executor.pids), flush=True)
    while True:
        llm.generate([1, 2, 3], SamplingParams(temperature=0, max_tokens=50))


if __name__ == "__main__":
    if sys.argv[1].startswith("{"):
        inject(json.loads(sys.argv[1])["rank"])
        serve.main()
    else:
        if "FAULT" in os.environ:
            inject(0)
        generate_for_ever(*sys.argv[1:])
