"""The engines as people get them: made from arguments alone."""

from __future__ import annotations

from typing import Optional

from vllm.engine import async_engine, llm_engine
from vllm.engine_args import EngineArgs
from vllm.worker.assemble import assemble


class LLMEngine(llm_engine.LLMEngine):
    """Reads the model, sizes the cache and allocates it; see the engine that it is.

    Raises `vllm.config.ModelError` for a model that cannot be run, ValueError for arguments that
    contradict each other or the machine.
    """

    def __init__(self, args: EngineArgs) -> None:
        super().__init__(args, assemble(args))

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> LLMEngine:
        """The same, under vLLM's name."""
        return cls(engine_args)


class AsyncLLMEngine(async_engine.AsyncLLMEngine):
    """An engine for many tasks at once; see the one that it is. Raises what `LLMEngine` raises."""

    def __init__(self, args: EngineArgs, *, max_requests: Optional[int] = None) -> None:
        super().__init__(LLMEngine(args), max_requests=max_requests)

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> AsyncLLMEngine:
        """The same, under vLLM's name."""
        return cls(engine_args)
