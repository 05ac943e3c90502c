"""vLLM's name for the module of `EngineArgs`."""

from vllm.engine_args import AsyncEngineArgs, EngineArgs

__all__ = ["AsyncEngineArgs", "EngineArgs"]
