"""The public engine classes, which are created from `EngineArgs`."""

from __future__ import annotations

from typing import Optional

from vllm.engine import async_engine, llm_engine
from vllm.engine_args import EngineArgs
from vllm.worker.assemble import assemble


class LLMEngine(llm_engine.LLMEngine):
    """Reads the model and allocates the KV cache; the base class has the methods.

    Raises `vllm.config.ModelError` if the model is not supported, ValueError if arguments
    contradict each other or do not fit the machine.
    """

    def __init__(self, args: EngineArgs) -> None:
        super().__init__(args, assemble(args))

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> LLMEngine:
        """The same, under vLLM's name."""
        return cls(engine_args)


class AsyncLLMEngine(async_engine.AsyncLLMEngine):
    """An engine for concurrent asyncio tasks. Raises what `LLMEngine` raises."""

    def __init__(self, args: EngineArgs, *, max_requests: Optional[int] = None) -> None:
        super().__init__(LLMEngine(args), max_requests=max_requests)

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> AsyncLLMEngine:
        """The same, under vLLM's name."""
        return cls(engine_args)
