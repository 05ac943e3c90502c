"""The module that vLLM keeps `EngineArgs` in, for programs that import it from there."""

from vllm.engine_args import AsyncEngineArgs, EngineArgs

__all__ = ["AsyncEngineArgs", "EngineArgs"]
