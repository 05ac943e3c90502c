"""The process of an engine without a model: each step's tokens are there at once, or after a pause.

For benchmarks of what is around an engine. `SECONDS_VARIABLE` is the time of a step.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, List

from benchmarks.host_steps import NoModel
from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.executor import StepResult
from vllm.engine.llm_engine import EngineParts
from vllm.engine.step_input import StepInput
from vllm.engine_args import EngineArgs
from vllm.engine_process import main as engine_main
from vllm.text.tokenizer import Tokenizer

MODULE = "benchmarks.instant_engine"
SECONDS_VARIABLE = "INSTANT_ENGINE_SECONDS"

_BLOCK_SIZE = 16
_FIRST, _COUNT = 300, 1000  # of the tokens that it "generates": words, not single bytes


class Instant(NoModel):
    """Samples one word after another."""

    num_blocks = 1 << 16
    block_size = _BLOCK_SIZE
    overlaps = False

    def __init__(self, max_rows: int, seconds: float) -> None:
        self.max_rows = max_rows
        self._seconds = seconds
        self._tokens = itertools.cycle(range(_FIRST, _FIRST + _COUNT))

    def submit(self, step: StepInput) -> List[int]:
        return list(itertools.islice(self._tokens, len(step.rows)))

    def sample(self, handle: Any) -> None:
        pass

    def collect(self, handle: List[int]) -> StepResult:
        if self._seconds:
            time.sleep(self._seconds)
        return StepResult(handle)


def assemble(args: EngineArgs) -> EngineParts:
    """As `vllm.worker.assemble.assemble`; `args.model` is a folder without weights."""
    folder = Path(args.model)
    config = ModelConfig.read(folder)
    executor = Instant(args.max_num_seqs, float(os.environ.get(SECONDS_VARIABLE, "0")))
    defaults, tokenizer = GenerationDefaults.read(folder), Tokenizer(folder)
    return EngineParts(executor, config, defaults, tokenizer, config.max_position_embeddings)


if __name__ == "__main__":
    engine_main.assemble = assemble
    engine_main.main()
