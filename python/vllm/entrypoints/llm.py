"""vLLM's name for the module of `LLM`."""

from vllm.llm import LLM

__all__ = ["LLM"]
