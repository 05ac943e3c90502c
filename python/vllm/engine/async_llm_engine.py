"""vLLM's name for the module of `AsyncLLMEngine`, which is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.engines import AsyncLLMEngine

__all__ = ["AsyncLLMEngine"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm import engines  # brings torch, which nothing else in this package does

    return getattr(engines, name)
