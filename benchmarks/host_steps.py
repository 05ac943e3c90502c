"""What benchmarks of the host's work in a step share: an engine without a model, a stopwatch."""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable, Dict, List, Tuple

from vllm.config import ModelConfig, RopeConfig
from vllm.engine.executor import Executor
from vllm.engine.step_input import SizeClass


def config(vocab_size: int, max_len: int) -> ModelConfig:
    """The configuration of a model that is never made: only these two numbers matter."""
    return ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=vocab_size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=max_len,
        rms_norm_eps=1e-6,
        rope=RopeConfig(),
        tie_word_embeddings=False,
        dtype="float32",
    )


class NoModel(Executor):
    """Has no model and no device. Subclasses say which tokens a step samples."""

    def allocate(self, nbytes: int) -> memoryview:
        return memoryview(bytearray(nbytes))

    def room(self, size: SizeClass) -> int:
        return 0

    def reset(self) -> None:
        pass


class Stopwatch:
    """Times of functions, in seconds: CPU time of all threads, and wall-clock time."""

    def __init__(self) -> None:
        self._times: Dict[str, List[Tuple[float, float]]] = {}

    def watch(self, owner: Any, name: str, label: str) -> Callable[[], None]:
        """Times a function from now on; the returned function undoes that."""
        function = getattr(owner, name)

        def timed(*args: Any) -> Any:
            used, started = time.process_time(), time.perf_counter()
            result = function(*args)
            took = time.process_time() - used, time.perf_counter() - started
            self._times.setdefault(label, []).append(took)
            return result

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, function)

    def processor(self) -> Dict[str, float]:
        """Label → the median CPU time, in milliseconds."""
        return self._medians(0)

    def wall(self) -> Dict[str, float]:
        """Label → the median wall-clock time, in milliseconds."""
        return self._medians(1)

    def _medians(self, clock: int) -> Dict[str, float]:
        return {
            label: round(statistics.median(each[clock] for each in times) * 1e3, 3)
            for label, times in self._times.items()
        }
