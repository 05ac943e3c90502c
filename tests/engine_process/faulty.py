"""An engine's process with a fault, as the environment says; see `EngineProcess.module`."""

from __future__ import annotations

import itertools
import os
import signal

from vllm.engine import llm_engine
from vllm.engine_process import main

MODULE = "tests.engine_process.faulty"
_STEP = 3  # the fault is in the fourth one


def inject(what: str) -> None:
    calls, step = itertools.count(), llm_engine.LLMEngine.step

    def faulty(self):
        if next(calls) != _STEP:
            return step(self)
        if what == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "dies":
            self.abort_request = None  # what would be done about the error fails as well
        raise ArithmeticError("an injected error")

    if what == "cannot be made":
        main.assemble = lambda args: 1 / 0
    else:
        llm_engine.LLMEngine.step = faulty


if __name__ == "__main__":
    if "FAULT" in os.environ:
        inject(os.environ["FAULT"])
    main.main()
