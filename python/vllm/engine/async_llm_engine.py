"""vLLM's name for the module of `AsyncLLMEngine`, which is imported on first access."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.engines import AsyncLLMEngine

__all__ = ["AsyncLLMEngine"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm import engines  # imports torch; nothing else in this package does

    return getattr(engines, name)
